"""csrc/cuda/iem.cu and its launcher, on the CPU (conftest.py). On a GPU the tests at the end run
the kernel itself."""

import re
from types import ModuleType
from typing import Any

import pytest
import torch

from fastseg import IEMStatus, iem
from fastseg.ops.inpaint import _reference

AUTHORS, PAPER = (5.0, 11, 2), (5.0, 21, 1)


@pytest.fixture
def cuda(launcher) -> ModuleType:
    return launcher("inpaint")


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
    first, second = (each for each in host.launches if each["kernel"] == "iem")
    assert first["table_y"] == second["table_y"]
    assert first["table_x"] == second["table_x"]


def test_kernels_are_those_that_are_measured(cuda, host):
    """What the launcher compiles is what benchmarks/compile.py does, but for a pixel's type."""
    from fastseg.backends.cuda import source

    listed = re.findall(r"^KERNEL\(iem_\w+, \w+, (\d), (\d+)\)", source("iem"), re.M)
    for channels in (1, 3):
        for dtype in (torch.uint8, torch.float32):
            images = pictures((1, channels, 6, 7), dtype)
            run(cuda, images, squares(images, 3), iterations=1)
    used = {tuple(part.partition("=")[2] for part in options[2:]) for options in host.libraries}
    assert {pixel for pixel, *_ in used} == {"float", "uint8"}
    assert {(channels, threads) for _, channels, threads in used} == set(listed)


# --- Sanitizers --------------------------------------------------------------------------------


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizer(sanitizer, sanitized):
    """The kernel on real threads, two warps of them: no race, nothing beyond its arguments, and
    the result of the fibers."""
    sanitized("race.cpp", sanitizer, "-DPIXEL=uint8", "-DCHANNELS=3", "-DBLOCK=64")


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
