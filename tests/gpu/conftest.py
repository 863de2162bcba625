"""Triton kernels run on a GPU where there is one, else on the CPU in Triton's interpreter. CUDA C++
runs on the CPU: g++ compiles csrc/cuda with tests/gpu/host, and in CuPy's place stands what
launches that."""

import ctypes
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

HOST = Path(__file__).parent / "host"
CSRC = HOST.parents[2] / "csrc"
CXX = shutil.which(os.environ.get("CXX", "g++"))
GUARD = 512  # bytes of wall around a block's memory
STREAM = 7


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")


@pytest.fixture
def device() -> torch.device:
    """Where this machine runs Triton kernels."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# --- A host in CuPy's place --------------------------------------------------------------------

Libraries = dict[tuple[str, ...], ctypes.CDLL]


class Host:
    """What launchers use of CuPy, on a card of `multiprocessors`; lists what was launched."""

    def __init__(self, folder: Path, libraries: Libraries):
        self.folder, self.libraries = folder, libraries
        self.multiprocessors, self.blocks_each, self.bytes = 3, 1, 1 << 30
        self.shared = 48 << 10  # bytes a block, at most
        self.order = 0  # of a block's threads, see cuda_shim.h
        self.streams: list[int] = []
        self.launches: list[dict] = []

    def module(self) -> ModuleType:
        cupy = ModuleType("cupy")
        vars(cupy).update(
            RawModule=lambda code, options, backend: RawModule(self, code, options, backend),
            cuda=SimpleNamespace(
                ExternalStream=lambda pointer: Stream(self, pointer),
                Device=lambda index: SimpleNamespace(
                    attributes={
                        "MultiProcessorCount": self.multiprocessors,
                        "MaxSharedMemoryPerBlockOptin": self.shared,
                    },
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
        self.code = code.replace("\\\n", "")
        named = sys.modules["fastseg.backends.cuda"].source
        (self.name,) = (
            file.stem for file in (CSRC / "cuda").glob("*.cu") if named(file.stem) == code
        )
        key = self.name, *options
        if key not in host.libraries:
            host.libraries[key] = self.build(code)
        self.library = host.libraries[key]

    def build(self, code: str) -> ctypes.CDLL:
        folder = self.host.folder / str(len(self.host.libraries))
        (folder / "cuda").mkdir(parents=True)
        (folder / "cuda" / f"{self.name}.cu").write_text(code, "utf-8")
        # The host has no multiply-adds to leave out, and keeps denormal numbers.
        flags = [option for option in self.options if option not in ("--fmad=false", "--ftz=true")]
        flags += ["-O2", "-U_FORTIFY_SOURCE", "-fno-gnu-unique", "-shared", "-fPIC", "-w"]
        library = folder / f"{self.name}.so"
        command = [str(CXX), *flags, f"-I{folder}", str(HOST / f"{self.name}.cpp")]
        environment = {name: v for name, v in os.environ.items() if name != "LD_PRELOAD"}
        subprocess.run([*command, "-o", str(library)], check=True, env=environment)
        return ctypes.CDLL(str(library))

    def get_function(self, name: str) -> "RawKernel":
        return RawKernel(self, name)


class RawKernel:
    def __init__(self, module: RawModule, name: str):
        self.module, self.name = module, name
        self.kernel = SimpleNamespace(ptr=1)
        # A kernel of several types is written once, by a macro; that of IEM gives the name too.
        kind = re.sub("_(float|double|half|bfloat16|uint8|rgb|any)$", "_##suffix", name)
        stems = name, "name", kind
        listed = next(
            found[1]
            for stem in stems
            if (found := re.search(rf"\b{stem}\(([^()]+)\) {{", module.code))
        )
        self.parameters = [part.split()[-1].lstrip("*") for part in listed.split(",")]

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple, shared_mem: int = 0
    ):
        host, library = self.module.host, self.module.library
        assert host.streams == [STREAM]
        assert 0 < grid[0] < 2**31
        letters = getattr(library, f"{self.name}_letters")
        letters.restype = ctypes.c_char_p
        expected = letters().decode()
        assert "".join(a.dtype.char for a in arguments).replace("l", "q") == expected.replace(
            "P", "q"
        )
        named = dict(zip(self.parameters, arguments, strict=True))
        where = {"kernel": self.name, "grid": grid[0], "block": block[0], "shared": shared_mem}
        host.launches.append({**where, **named})
        if "memory_stride" in named:
            self.guarded(grid, block, named)
        else:
            self.run(grid, block, named, shared_mem)

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

    def run(self, grid: tuple[int, ...], block: tuple[int, ...], named: dict, shared_mem: int = 0):
        values = [np.array(value) for value in named.values()]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        assert shared_mem <= self.module.host.shared
        room = np.full(2 * GUARD + shared_mem, 0xFF, np.uint8)
        at = ctypes.c_void_p(room.ctypes.data + GUARD)
        launch = getattr(self.module.library, f"{self.name}_launch")
        launch(grid[0], block[0], at, self.module.host.order, pointers)
        assert (room[:GUARD] == 0xFF).all()
        assert (room[GUARD + shared_mem :] == 0xFF).all()


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> tuple[Path, Libraries]:
    return tmp_path_factory.mktemp("kernels"), {}


@pytest.fixture
def host(built, monkeypatch) -> Host:
    if CXX is None:
        pytest.skip("no C++ compiler")
    stream = SimpleNamespace(cuda_stream=STREAM)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    return Host(*built)


@pytest.fixture
def launcher(host, monkeypatch) -> Callable[[str], ModuleType]:
    """launcher("iem") is the launcher of the family, with the host in CuPy's place."""

    def load(family: str) -> ModuleType:
        monkeypatch.setitem(sys.modules, "cupy", host.module())
        for name in ("fastseg.backends.cuda", f"fastseg.ops.{family}._cuda"):
            monkeypatch.delitem(sys.modules, name, raising=False)
            module = importlib.import_module(name)
            monkeypatch.delitem(sys.modules, name)  # as it was at the end
            monkeypatch.setitem(sys.modules, name, module)
        return module

    return load


# --- Sanitizers --------------------------------------------------------------------------------


@pytest.fixture
def sanitized(tmp_path) -> Callable[..., None]:
    """sanitized("race.cpp", sanitizer, …) builds that program of tests/gpu/host, whose threads are
    real ones then: it ends well, and prints what it prints with fibers."""

    def check(program: str, sanitizer: str, *options: str) -> None:
        if CXX is None:
            pytest.skip("no C++ compiler")
        clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        printed = []
        for flags in (
            ("-U_FORTIFY_SOURCE",),
            (
                "-DSHIM_THREADS",
                "-pthread",
                "-g",
                f"-fsanitize={sanitizer}",
                "-fno-sanitize-recover",
            ),
        ):
            command = [str(CXX), "-std=c++17", "-O1", "-w", *flags, f"-I{CSRC}", *options]
            command += [str(HOST / program), "-o", str(tmp_path / "race")]
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

    return check
