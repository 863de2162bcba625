"""csrc/cuda/slic.cu and its launcher, on the CPU (conftest.py). On a GPU the tests at the end run
the kernels themselves."""

from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as some

import fastseg
from benchmarks.compile import CUDA_OPTIONS
from fastseg.ops.slic import _reference, _smooth
from fastseg.ops.slic._seeds import Seeds, seeds

GRID = {"n_segments": 20, "min_size_factor": 0.5, "max_size_factor": 3}


@pytest.fixture
def cuda(launcher) -> ModuleType:
    return launcher("slic")


def pictures(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Smooth noise under fine noise."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn((*shape[:2], 5, 6), generator=rng)
    x = torch.nn.functional.interpolate(coarse, shape[2:], mode="bilinear")
    x = ((x + 3) / 6 + 0.05 * torch.randn(shape, generator=rng)).clamp(0, 1)
    return (x * 255).byte() if dtype == torch.uint8 else x.to(dtype)


def discs(batch: int, height: int, width: int) -> torch.Tensor:
    """Two a mask, apart."""
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    one = ((y + 0.4) ** 2 + (x + 0.5) ** 2 < 0.3) | ((y - 0.5) ** 2 + (x - 0.4) ** 2 < 0.2)
    return torch.stack([one, ~one][:batch])


def run(
    backend: ModuleType, images: torch.Tensor, mask: torch.Tensor | None = None, **given
) -> torch.Tensor:
    options = {"scale": 0.1, "iterations": 5, "sigma": (0, 0), "lab": images.shape[1] == 3}
    options |= {"connected": True, "zero": False, "start": 0}
    sizes = GRID | {name: given.pop(name) for name in GRID if name in given}
    batch, _, height, width = images.shape
    start = seeds(height, width, mask, batch, sizes)
    from fastseg.ops.slic import _cuda

    extents: Any = _cuda.extents(images, mask)
    if backend is _reference:
        extents = [of.numpy() for of in extents]
    return backend.slic(images, mask, *extents, start, **(options | given))


# --- Same as the reference ---------------------------------------------------------------------

CASES = [
    # shape, dtype, masked, the rest
    ((2, 3, 41, 53), torch.uint8, False, {}),
    ((2, 3, 41, 53), torch.uint8, False, {"zero": True, "start": 1}),
    ((1, 3, 67, 33), torch.float32, False, {"n_segments": 400, "connected": False}),
    ((2, 1, 40, 35), torch.float32, False, {"scale": 3.0, "sigma": (0.7, 1.5)}),
    ((1, 3, 40, 35), torch.uint8, False, {"sigma": (1.0, 0.0)}),
    ((1, 9, 33, 40), torch.float32, False, {"scale": 2.0, "max_size_factor": 0.9}),
    ((1, 3, 33, 40), torch.float32, False, {"lab": False, "scale": 9.0, "min_size_factor": 2.0}),
    ((2, 3, 45, 50), torch.float32, True, {}),
    ((2, 2, 45, 50), torch.uint8, True, {"zero": True, "n_segments": 9, "iterations": 2}),
    ((1, 3, 1, 1), torch.uint8, False, {}),
    ((1, 3, 9, 1), torch.float32, False, {"n_segments": 3}),
    ((1, 3, 20, 20), torch.uint8, False, {"n_segments": 1}),
]
cases = pytest.mark.parametrize(("shape", "dtype", "masked", "options"), CASES)


@cases
@pytest.mark.parametrize("tiled", [False, True], ids=["one block", "tiled"])
def test_same_labels(shape, dtype, masked, options, tiled, cuda, host, monkeypatch, poisoned):
    monkeypatch.setattr(cuda, "FEW_PIXELS", 0 if tiled else 1 << 20)
    images = pictures(shape, dtype)
    mask = discs(shape[0], *shape[2:]) if masked else None
    actual = run(cuda, images, mask, **options)
    assert actual.dtype == torch.int32
    assert torch.equal(actual, run(_reference, images, mask, **options))
    launches = [each for each in host.launches if "load" not in each["kernel"]]
    tiles = -(-shape[2] // 32) * -(-shape[3] // 32)
    several = tiled and tiles > 1
    assert {each["grid"] for each in launches} == {shape[0] * (tiles if several else 1)}
    assert (len(launches) > 1) == several
    assert launches[0]["from"] == 0
    assert all(a["to"] == b["from"] for a, b in pairwise(launches))


def test_layouts_other_than_contiguous(cuda):
    images = pictures((2, 3, 30, 31), torch.uint8)
    expected = run(cuda, images)
    wide = torch.stack([images, 255 - images], -1)[..., 0]
    for other in (images.to(memory_format=torch.channels_last), images.mT.contiguous().mT, wide):
        assert not other.is_contiguous()
        assert torch.equal(run(cuda, other), expected)


def test_centres_that_lose_their_pixels(cuda):
    """More centres than colours, so far apart in colour that some starve and pixels keep a label
    out of reach."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 2, (1, 1, 40, 40), generator=rng).float()
    for scale in (20.0, 100.0):
        options: Any = {"scale": scale, "n_segments": 150, "iterations": 7, "lab": False}
        assert torch.equal(run(cuda, images, **options), run(_reference, images, **options))


@pytest.mark.parametrize("sigma", [(0.3, 2.0), (9.0, 0.0)])
def test_smooth_is_scipys(sigma, cuda):
    x = torch.rand((2, 3, 7, 30), generator=torch.Generator().manual_seed(0))
    assert np.array_equal(cuda.smooth(x, sigma).numpy(), _smooth.smooth(x.numpy(), sigma))


def connected(cuda: Any, labels: np.ndarray, least: int, most: int) -> np.ndarray:
    """The last steps alone: labels (H,W) below 8."""
    height, width = labels.shape
    at = np.full((1, 8, 2), np.nan, np.float32)
    sizes = np.array([[least, most]], np.int32)
    start = Seeds(at, np.ones(1, np.float32), np.ones((1, 2), np.int32), sizes)
    given = torch.from_numpy(labels.astype(np.int32))[None]
    whole = cuda.launch

    def only_connect(kernel, blocks, threads, *everything):
        if "slic_load" in kernel.name:
            return whole(kernel, blocks, threads, *everything)
        *arguments, of_image, begin, end = everything
        if end > 3:  # a round is 3 steps
            if begin <= 3:
                arguments[20].copy_(given)
            boxes = arguments[16].view(1, 3, 8, 4)
            boxes[:, 1:] = torch.tensor([0, 0, height, width])
            whole(kernel, blocks, threads, *arguments, of_image, np.int32(max(begin, 3)), end)

    cuda.launch = only_connect
    try:
        zero = torch.zeros(1)
        options = 1.0, 1, (0, 0), False, True, False, 0
        out = cuda.slic(torch.zeros(1, 1, height, width), None, zero, zero, start, *options)
    finally:
        cuda.launch = whole
    return out[0].numpy()


def assert_connected(cuda: ModuleType, labels: np.ndarray, least: int, most: int):
    expected = _reference.connect(labels.astype(np.int32), least, most)
    assert np.array_equal(connected(cuda, labels, least, most), expected)


@given(
    some.integers(1, 24), some.integers(1, 24), some.integers(1, 8), some.integers(0, 12),
    some.integers(0, 30), some.sampled_from([0.0, 0.3, 0.7]), some.integers(0, 999),
)  # fmt: skip
@examples(max_examples=150)
def connectivity(cuda, height, width, labels, least, most, masked, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, labels, (height // 3 + 1, width // 2 + 1)).repeat(3, 0).repeat(2, 1)
    found = coarse[:height, :width]
    found = np.where(rng.random(found.shape) < 0.3, rng.integers(0, labels, found.shape), found)
    found = np.where(rng.random(found.shape) < masked, -1, found)
    assert_connected(cuda, found, least, most)


def test_connectivity(cuda):
    """Of any labels: pieces that are cut, join one another, or have nothing to join."""
    connectivity(cuda)


def test_connectivity_of_small_pieces_that_lead(cuda):
    # The first piece, too small, shares the number of the next, large one. Between them, pieces
    # that would join it do not see it.
    rows = ["0122222", "0122233", "4422233", "4422255"]
    labels = np.array([[int(c) for c in row] for row in rows])
    for least in range(1, 9):
        assert_connected(cuda, labels, least, 100)
    alone = np.where(np.indices((9, 9)).sum(0) % 2 == 0, 3, -1)
    for least in (1, 2):
        assert_connected(cuda, alone, least, 100)


def test_connectivity_in_several_blocks(cuda, monkeypatch):
    monkeypatch.setattr(cuda, "FEW_PIXELS", 0)
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 8, (14, 20)).repeat(5, 0).repeat(4, 1)[:69, :75]
    labels = np.where(rng.random(labels.shape) < 0.05, rng.integers(-1, 8, labels.shape), labels)
    for least, most in ((4, 30), (10, 1000), (60, 40), (10**6, 10**6)):
        assert_connected(cuda, labels, least, most)


# --- Launches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_any_order_of_threads(masked, host, cuda):
    """Threads in order, in the opposite order and in random ones: were there a race, some other
    result would be likely."""
    images = pictures((2, 3, 40, 45), torch.uint8)
    mask = discs(2, 40, 45) if masked else None
    expected = run(cuda, images, mask, zero=True)
    for host.order in (1, 2, 3):
        assert torch.equal(run(cuda, images, mask, zero=True), expected)


def test_blocks_of_a_batch(cuda):
    assert cuda._blocks(256, 128, 128) == 1
    assert cuda._blocks(1000, 512, 512) == 1
    assert cuda._blocks(1, 64, 64) == 1
    assert cuda._blocks(1, 65, 64) == 6
    assert cuda._blocks(255, 128, 128) == 16
    assert cuda._blocks(1, 4096, 4096) == 128 * 128
    assert cuda._blocks(2, 1 << 15, 1 << 15) * 2 < 2**31


def test_a_second_call_waits_for_nothing(cuda, monkeypatch):
    images = pictures((2, 3, 30, 31), torch.float32)
    expected = run(cuda, images)

    def waits(*_, **__):
        raise AssertionError("copies between host and device")

    for name in ("item", "__int__", "__bool__", "cpu", "numpy", "tolist", "to"):
        monkeypatch.setattr(torch.Tensor, name, waits)
    for name in ("tensor", "from_numpy"):
        monkeypatch.setattr(torch, name, waits)
    actual = run(cuda, images)
    monkeypatch.undo()
    assert torch.equal(actual, expected)


def test_products_are_rounded_before_they_are_added(cuda, host):
    """Or labels would not compare."""
    run(cuda, pictures((1, 3, 9, 9), torch.uint8))
    used = [options for name, *options in host.libraries if name == "slic"]
    assert used == [["-std=c++17", *CUDA_OPTIONS["slic"]]] == [["-std=c++17", "--fmad=false"]]


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizer(sanitizer, sanitized):
    """The kernels on real threads: no race, nothing beyond their arguments, and the result of the
    fibers."""
    sanitized("race_slic.cpp", sanitizer)


# --- What only a GPU can show ------------------------------------------------------------------


@pytest.mark.gpu
@cases
def test_gpu_same_as_reference(shape, dtype, masked, options):
    pytest.importorskip("cupy")
    from fastseg.ops.slic import _cuda

    images = pictures(shape, dtype)
    mask = discs(shape[0], *shape[2:]) if masked else None
    # Colours as they are: a power of the conversion to Lab may round otherwise and decide a tie.
    options = {**options, "lab": False, "scale": options.get("scale", 5.0)}
    actual = run(_cuda, images.cuda(), None if mask is None else mask.cuda(), **options)
    assert torch.equal(actual.cpu(), run(_reference, images, mask, **options))


@pytest.mark.gpu
@pytest.mark.parametrize(("batch", "side"), [(300, 128), (3, 128), (2, 700)])
def test_gpu_same_as_native_and_every_time(batch, side):
    """Through the public function."""
    pytest.importorskip("cupy")
    images = pictures((batch, 3, side, side), torch.uint8)
    for lab, most in ((False, 0), (True, 5e-3)):
        options: Any = {"convert2lab": lab, "compactness": 10.0 if lab else 0.2}
        expected = fastseg.slic(images, side, **options)
        first, again = (fastseg.slic(images.cuda(), side, **options).cpu() for _ in range(2))
        assert (first != expected).double().mean() <= most
        assert torch.equal(first, again)


@pytest.mark.gpu
def test_gpu_replays_from_a_cuda_graph():
    pytest.importorskip("cupy")
    images = pictures((4, 3, 100, 90), torch.uint8).cuda()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        fastseg.slic(images, 50)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = fastseg.slic(images, 50)
    images.copy_(pictures((4, 3, 100, 90), torch.uint8, seed=1))
    graph.replay()
    assert torch.equal(captured, fastseg.slic(images, 50))
