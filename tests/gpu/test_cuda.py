"""csrc/cuda/iem.cu and its launcher, on the CPU: g++ compiles the kernel with tests/gpu/host, and
in CuPy's place stands what launches that. On a GPU the tests at the end run the kernel itself."""

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fastseg import IEMStatus, iem
from fastseg.ops.inpaint import _reference

HOST = Path(__file__).parent / "host"
CXX = shutil.which(os.environ.get("CXX", "g++"))
GUARD = 512  # bytes between the memories of two blocks
AUTHORS, PAPER = (5.0, 11, 2), (5.0, 21, 1)


# --- A host in CuPy's place --------------------------------------------------------------------


class Host:
    """What `_cuda` uses of CuPy, on a card of `multiprocessors`; lists what was launched."""

    def __init__(self, folder: Path, libraries: dict[tuple[str, ...], ctypes.CDLL]):
        self.folder, self.libraries = folder, libraries
        self.multiprocessors, self.blocks_each, self.bytes = 3, 1, 1 << 30
        self.order = 0  # of a block's threads, see cuda_shim.h
        self.streams: list[int] = []
        self.launches: list[dict[str, np.generic]] = []

    def module(self) -> ModuleType:
        cupy = ModuleType("cupy")
        vars(cupy).update(
            RawModule=lambda code, options, backend: RawModule(self, code, options, backend),
            cuda=SimpleNamespace(
                ExternalStream=lambda pointer: Stream(self, pointer),
                Device=lambda index: SimpleNamespace(
                    attributes={"MultiProcessorCount": self.multiprocessors},
                    mem_info=(0, self.bytes),
                ),
                driver=SimpleNamespace(
                    occupancyMaxActiveBlocksPerMultiprocessor=lambda *_: self.blocks_each
                ),
            ),
        )
        return cupy


class Stream:
    def __init__(self, host: Host, pointer: int):
        self.host, self.pointer = host, pointer

    def __enter__(self):
        self.host.streams.append(self.pointer)

    def __exit__(self, *_):
        self.host.streams.pop()


class RawModule:
    """The source, compiled once for each set of options."""

    def __init__(self, host: Host, code: str, options: tuple[str, ...], backend: str):
        assert backend == "nvrtc"
        assert "#include" not in code
        self.host, self.options = host, options
        self.parameters = {
            name: [part.split()[-1].lstrip("*") for part in listed.split(",")]
            for name, listed in re.findall(
                r"(\w+)\(([^()]+)\) {", code.replace("\\\n", "").replace("KERNEL(name, ", "")
            )
            if name in ("name", "iem_workspace")
        }
        self.parameters["iem"] = self.parameters.pop("name")
        if options not in host.libraries:
            host.libraries[options] = self.build(code)
        self.library = host.libraries[options]

    def build(self, code: str) -> ctypes.CDLL:
        folder = self.host.folder / str(len(self.host.libraries))
        (folder / "cuda").mkdir(parents=True)
        (folder / "cuda" / "iem.cu").write_text(code, "utf-8")
        library = folder / "iem.so"
        command = [
            str(CXX),
            *self.options,
            "-O2",
            "-U_FORTIFY_SOURCE",
            "-fno-gnu-unique",
            "-shared",
            "-fPIC",
        ]
        command += [f"-I{folder}", str(HOST / "iem.cpp"), "-o", str(library)]
        environment = {name: v for name, v in os.environ.items() if name != "LD_PRELOAD"}
        subprocess.run(command, check=True, env=environment)
        return ctypes.CDLL(str(library))

    def get_function(self, name: str) -> "RawKernel":
        return RawKernel(self, name)


class RawKernel:
    def __init__(self, module: RawModule, name: str):
        self.module, self.name = module, name
        self.kernel = SimpleNamespace(ptr=1)

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple):
        host, library = self.module.host, self.module.library
        assert host.streams == [STREAM]
        letters = getattr(library, f"{self.name}_letters")
        letters.restype = ctypes.c_char_p
        expected = letters().decode()
        assert "".join(a.dtype.char for a in arguments).replace("l", "q") == expected.replace(
            "P", "q"
        )
        named = dict(zip(self.module.parameters[self.name], arguments, strict=True))
        if self.name == "iem":
            assert block == (int(self.module.options[-1].removeprefix("-DBLOCK=")),)
            host.launches.append({"grid": np.int64(grid[0]), **named})
            self.guarded(grid, block, named)
        else:
            self.run(grid, block, named)

    def guarded(self, grid: tuple[int, ...], block: tuple[int, ...], named: dict):
        """Each block's memory full of NaN, between walls."""
        size = int(named["memory_stride"])
        memory = np.full(grid[0] * (size + GUARD) + GUARD + 128, 0xFF, np.uint8)
        first = GUARD + -memory.ctypes.data % 128
        named = named | {
            "memory": np.int64(memory.ctypes.data + first),
            "memory_stride": np.int64(size + GUARD),
        }
        self.run(grid, block, named)
        assert (memory[:first] == 0xFF).all()
        for b in range(grid[0]):
            end = first + b * (size + GUARD) + size
            assert (memory[end : end + GUARD] == 0xFF).all()

    def run(self, grid: tuple[int, ...], block: tuple[int, ...], named: dict):
        values = [np.array(value) for value in named.values()]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        launch = getattr(self.module.library, f"{self.name}_launch")
        launch(grid[0], block[0], self.module.host.order, pointers)


STREAM = 7


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, dict[tuple[str, ...], ctypes.CDLL]]:
    return tmp_path_factory.mktemp("kernels"), {}


@pytest.fixture
def host(built, monkeypatch) -> Host:
    if CXX is None:
        pytest.skip("no C++ compiler")
    stream = SimpleNamespace(cuda_stream=STREAM)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    return Host(*built)


@pytest.fixture
def cuda(host, monkeypatch) -> ModuleType:
    """The launcher, with the host in CuPy's place."""
    monkeypatch.setitem(sys.modules, "cupy", host.module())
    spec = importlib.util.find_spec("fastseg.ops.inpaint._cuda")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- Same as the other backends ----------------------------------------------------------------


def pictures(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """An off-centre ellipse of another colour in each, under smooth noise: in the dtype's range."""
    batch, channels, height, width = shape
    rng = torch.Generator().manual_seed(seed)
    noise = _reference.gaussian_filter(torch.randn(shape, generator=rng), 2.0, 5, 1)
    centre = 0.3 + 0.4 * torch.rand(2, batch, 1, 1, 1, generator=rng)
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 0.08
    colour = torch.randn(batch, channels, 1, 1, generator=rng)
    x = (0.5 + 0.3 * noise + 0.2 * inside * colour).clamp(0, 1)
    return (x * 255).round().byte() if dtype == torch.uint8 else x.to(dtype)


def squares(images: torch.Tensor, *sides: int) -> torch.Tensor:
    """Initial masks (B,S,H,W), one memory for the whole batch."""
    batch, _, height, width = images.shape
    masks = torch.zeros((1, len(sides), height, width), dtype=torch.bool)
    for i, side in enumerate(sides):
        top, left = max(0, height - side) // 2, max(0, width - side) // 2
        masks[:, i, top : top + side, left : left + side] = True
    return masks.expand(batch, -1, -1, -1)


def run(
    backend: ModuleType,
    images: torch.Tensor,
    init: torch.Tensor,
    *,
    iterations: int = 12,
    smoothing: str = "authors",
    boundary_only: bool = True,
    kernel: tuple[float, int, int] = AUTHORS,
) -> tuple[torch.Tensor, ...]:
    lo, hi = (0.0, 255.0) if images.dtype == torch.uint8 else (0.0, 1.0)
    options = (iterations, 0.001, smoothing, boundary_only, *kernel)
    if backend is _reference:
        return _reference.iem(images.double(), init, lo, hi, *options)
    return backend.iem(images, init, lo, hi, *options)


def assert_same(actual, expected):
    for i in (0, 2, 3):
        assert actual[i].dtype == expected[i].dtype
        assert torch.equal(actual[i], expected[i])
    assert actual[1].dtype == torch.float32
    torch.testing.assert_close(actual[1], expected[1], rtol=0, atol=1e-5)


CASES: list[tuple[Any, ...]] = [
    # shape, dtype, sides of the initial squares, and the rest of `run`
    ((2, 3, 37, 45), torch.uint8, (12, 22, 27), {}),
    ((2, 3, 40, 130), torch.float32, (14,), {"iterations": 8}),
    ((3, 1, 21, 70), torch.uint8, (8, 13), {}),
    ((2, 4, 33, 64), torch.float32, (12, 20), {"smoothing": "paper"}),
    ((1, 5, 26, 37), torch.float64, (9,), {"smoothing": "none"}),
    ((2, 3, 48, 21), torch.uint8, (13,), {"kernel": PAPER}),
    ((2, 3, 11, 5), torch.uint8, (3, 4), {}),
    ((2, 1, 1, 9), torch.float32, (3,), {}),
    ((2, 3, 20, 20), torch.uint8, (20,), {}),
    ((1, 3, 24, 30), torch.uint8, (9,), {"boundary_only": False, "iterations": 4}),
    ((1, 3, 30, 30), torch.float32, (9,), {"iterations": 0}),
    ((16, 3, 24, 28), torch.uint8, (9,), {"iterations": 40}),
    ((16, 3, 24, 28), torch.uint8, (9,), {"iterations": 41}),
]


@pytest.mark.parametrize(("shape", "dtype", "sides", "options"), CASES)
def test_same_as_native_and_reference(shape, dtype, sides, options, cuda):
    images = pictures(shape, dtype)
    init = squares(images, *sides)
    actual = run(cuda, images, init, **options)
    assert actual[0].shape == (shape[0], 1, *shape[2:])
    assert_same(actual, run(_reference, images, init, **options))
    native = pytest.importorskip("fastseg.ops.inpaint._native")
    assert_same(actual, run(native, images, init, **options))


def test_every_way_to_end(cuda):
    ended: set[int] = set()
    for shape, dtype, sides, options in (CASES[0], CASES[7], CASES[11]):
        images = pictures(shape, dtype)
        ended |= {*run(cuda, images, squares(images, *sides), **options)[3].tolist()}
    assert ended == set(IEMStatus)


@pytest.mark.parametrize("channels", [3, 4])
def test_any_order_of_threads(channels, host, cuda):
    """Threads in order, in the opposite order and in random ones: were there a race, some other
    result would be likely."""
    images = pictures((2, channels, 41, 66), torch.uint8)
    init = squares(images, 15)
    expected = run(cuda, images, init)
    for host.order in (1, 2, 3):
        for part, same in zip(run(cuda, images, init), expected, strict=True):
            assert torch.equal(part, same)


def test_layouts_other_than_contiguous(cuda):
    images = pictures((2, 3, 20, 31), torch.uint8)
    init = squares(images, 8)
    expected = run(cuda, images, init)
    wide = torch.stack([images, 255 - images], -1)[..., 0]
    for other in (images.to(memory_format=torch.channels_last), images.mT.contiguous().mT, wide):
        assert not other.is_contiguous()
        masks = init.contiguous() if other is wide else init.mT.contiguous().mT
        assert_same(run(cuda, other, masks), expected)


# --- Launches ----------------------------------------------------------------------------------


def test_of_equal_results_the_first(cuda):
    images = pictures((1, 3, 20, 24), torch.uint8)
    init = torch.zeros(1, 3, 20, 24, dtype=torch.bool)
    init[:, 1, 5:15, 7:17] = True
    init[:, 2, 5:15, 7:17] = True
    init[:, 2, 0, 0] = True
    alone = [run(cuda, images, init[:, s : s + 1], iterations=0) for s in range(3)]
    several = run(cuda, images, init[:, [0, 1, 2, 1, 2]], iterations=0)
    errors = torch.cat([result[1] for result in alone])
    assert errors[0] == 0 < errors[1:].min()
    assert errors[1] != errors[2]
    assert_same(several, alone[int(errors.argmax())])


@pytest.mark.parametrize(
    ("multiprocessors", "blocks_each", "room", "blocks"),
    [(3, 1, 99, 3), (2, 2, 99, 4), (99, 2, 99, 6), (99, 2, 5, 5), (99, 2, 0, 1)],
)
def test_as_many_blocks_as_fill_the_card(multiprocessors, blocks_each, room, blocks, host, cuda):
    """`room` for so many blocks' memory in a quarter of the card's."""
    images = pictures((6, 3, 24, 30), torch.uint8)
    init = squares(images, 8)
    expected = run(cuda, images, init)
    size = int(host.launches[-1]["memory_stride"])
    assert size % 128 == 0
    host.multiprocessors, host.blocks_each, host.bytes = (
        multiprocessors,
        blocks_each,
        4 * room * size,
    )
    cuda._most_blocks.cache_clear()
    assert_same(run(cuda, images, init), expected)
    assert host.launches[-1]["grid"] == blocks


def test_a_second_call_waits_for_nothing(host, cuda, monkeypatch):
    images = pictures((2, 3, 24, 30), torch.uint8)
    init = squares(images, 8)
    expected = run(cuda, images, init)

    def waits(*_, **__):
        raise AssertionError("copies between host and device")

    for name in ("item", "__int__", "__bool__", "cpu", "numpy", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, waits)
    monkeypatch.setattr(torch, "tensor", waits)
    actual = run(cuda, images, init)
    monkeypatch.undo()
    assert_same(actual, expected)
    first, second = host.launches
    assert first["table_y"] == second["table_y"]
    assert first["table_x"] == second["table_x"]


def test_kernels_are_those_that_are_measured(cuda, host):
    """What the launcher compiles is what benchmarks/compile.py compiles ahead of time."""
    listed = re.findall(r"^KERNEL\(iem_\w+, (\w+), (\d), (\d+)\)", cuda._source(), re.M)
    for channels in (1, 3):
        for dtype in (torch.uint8, torch.float32):
            images = pictures((1, channels, 6, 7), dtype)
            run(cuda, images, squares(images, 3), iterations=1)
    used = {tuple(part.partition("=")[2] for part in options[1:]) for options in host.libraries}
    assert used == set(listed)
    assert len(listed) == 4


# --- Sanitizers --------------------------------------------------------------------------------


@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizer(sanitizer, tmp_path):
    """The kernel on real threads, two warps of them: no race, nothing beyond its arguments, and
    the result of the fibers."""
    csrc = HOST.parents[2] / "csrc"
    clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    printed = []
    for flags in (
        ("-U_FORTIFY_SOURCE",),
        ("-DSHIM_THREADS", "-pthread", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover"),
    ):
        command = [str(CXX), "-std=c++17", "-O1", *flags, f"-I{csrc}", str(HOST / "race.cpp")]
        command += ["-DPIXEL=uint8", "-DCHANNELS=3", "-DBLOCK=64", "-o", str(tmp_path / "race")]
        built = subprocess.run(command, env=clean, capture_output=True, text=True)
        if "cannot find" in built.stderr:
            pytest.skip(f"no runtime of -fsanitize={sanitizer}")
        assert built.returncode == 0, built.stderr
        done = subprocess.run([tmp_path / "race"], env=clean, capture_output=True, text=True)
        if "unexpected memory mapping" in done.stderr:
            pytest.skip("ThreadSanitizer cannot run here")
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert printed[0] == printed[1] != ""


# --- What only a GPU can show ------------------------------------------------------------------


def on_gpu(images: torch.Tensor, init: torch.Tensor, **options) -> tuple[torch.Tensor, ...]:
    from fastseg.ops.inpaint import _cuda

    return run(_cuda, images.cuda(), init.cuda(), **options)


@pytest.mark.gpu
@pytest.mark.parametrize(("shape", "dtype", "sides", "options"), CASES)
def test_gpu_same_as_native_and_reference(shape, dtype, sides, options):
    pytest.importorskip("cupy")
    images = pictures(shape, dtype)
    init = squares(images, *sides)
    actual = [part.cpu() for part in on_gpu(images, init, **options)]
    assert_same(actual, run(_reference, images, init, **options))


@pytest.mark.gpu
def test_gpu_photographs_of_the_default_size():
    """Through the public function; a rounding may decide a pixel, so not all are alike."""
    pytest.importorskip("cupy")
    images = pictures((300, 3, 128, 128), torch.uint8)
    actual, expected = (iem(x) for x in (images.cuda(), images))
    assert (actual.masks.cpu() == expected.masks).double().mean() > 0.999
    torch.testing.assert_close(actual.error.cpu(), expected.error, rtol=0, atol=1e-4)


@pytest.mark.gpu
def test_gpu_same_bits_every_time():
    pytest.importorskip("cupy")
    images = pictures((200, 3, 64, 70), torch.uint8)
    init = squares(images, 22, 40)
    expected = on_gpu(images, init)
    for _ in range(3):
        for part, same in zip(on_gpu(images, init), expected, strict=True):
            assert torch.equal(part, same)
    for part, same in zip(on_gpu(images[150:], init[150:]), expected, strict=True):
        assert torch.equal(part, same[150:])


@pytest.mark.gpu
def test_gpu_launches_on_the_current_stream():
    pytest.importorskip("cupy")
    images = pictures((4, 3, 48, 48), torch.uint8).cuda()
    init = squares(images, 16).cuda()
    expected = on_gpu(images, init)
    late = torch.zeros_like(images)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        late.copy_(images)
        actual = on_gpu(late, init)
    side.synchronize()
    assert_same(actual, expected)


@pytest.mark.gpu
def test_gpu_replays_from_a_cuda_graph():
    pytest.importorskip("cupy")
    images = pictures((4, 3, 48, 48), torch.uint8).cuda()
    init = squares(images, 16, 24).cuda()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        on_gpu(images, init)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = on_gpu(images, init)
    images.copy_(pictures((4, 3, 48, 48), torch.uint8, seed=1))
    graph.replay()
    assert_same(captured, on_gpu(images, init))
