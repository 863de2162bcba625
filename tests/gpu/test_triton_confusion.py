"""The Triton kernel of confusion counts against the reference: compiled on a GPU, else run by the
interpreter."""

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.compile import recorded
from fastseg.ops.confusion import _reference, _triton

# Where there is a GPU, all of these need it: `pytest -m gpu` then runs them.
pytestmark = [pytest.mark.gpu] if torch.cuda.is_available() else []
pytestmark += [pytest.mark.usefixtures("poisoned")]

DTYPES = [torch.uint8, torch.int16, torch.int32, torch.int64]
SIZES = [(1, 1), (3, 10), (6, 6), (27, 27), (50, 60)]  # K, C; of the last each pixel is added alone


def labels(count, pixels, seed, dtype=torch.int64):
    """Some negative where the dtype allows, some too large."""
    rng = torch.Generator().manual_seed(seed)
    low = -1 if dtype.is_signed else 0
    return torch.randint(low, count + 1, (pixels,), generator=rng).to(dtype)


def compare(pred, target, sizes, device):
    """Counts of the kernel, equal to the reference's and of the same kind."""
    actual = _triton.confusion(pred.to(device), target.to(device), *sizes)
    expected = _reference.confusion(pred, target, *sizes)
    assert actual.dtype == torch.int64
    assert torch.equal(actual.cpu(), expected)


@pytest.mark.parametrize("ignored", [-1, 2])
@pytest.mark.parametrize("pixels", [0, 1, 5000])
@pytest.mark.parametrize("sizes", SIZES)
def test_equals_the_reference(sizes, pixels, ignored, device):
    pred, target = labels(sizes[0], pixels, 0), labels(sizes[1], pixels, 1)
    compare(pred, target, (*sizes, ignored), device)


@pytest.mark.parametrize("of_target", DTYPES)
@pytest.mark.parametrize("of_pred", DTYPES)
def test_every_dtype(of_pred, of_target, device):
    """27·27 counts do not fit in a byte, nor do their places."""
    pred, target = labels(27, 3000, 0, of_pred), labels(27, 3000, 1, of_target)
    compare(pred, target, (27, 27, 5), device)


def test_labels_as_large_as_they_get(device):
    for dtype in DTYPES:
        most = torch.iinfo(dtype).max
        good, large = torch.tensor([0, 1, 1], dtype=dtype), torch.tensor([1, most, 0], dtype=dtype)
        compare(good, large, (2, 2, -1), device)
        compare(large, good, (2, 2, -1), device)
        compare(large, large, (2, 2, most), device)
        compare(large, good, (2, 2, 2**40), device)


def test_programs_of_many_steps(device, monkeypatch):
    monkeypatch.setattr(_triton, "PROGRAMS", 2)
    pred, target = labels(5, 11_111, 0).view(41, 271).T, labels(4, 11_111, 1).view(41, 271).T
    compare(pred, target, (5, 4, 3), device)
    compare(pred, target, (60, 60, 3), device)


@pytest.mark.parametrize("sizes", [(6, 6), (60, 60)])
def test_no_access_outside_the_tensors(sizes, device):
    """The launch again between walls: labels that count around what it reads, and known values
    around the counts."""
    pred, target = (labels(6, 3001, seed).to(device) for seed in (0, 1))

    def walled(tensor, value):
        memory = tensor.new_full((tensor.numel() + 8192,), value)
        inside = memory[4096:-4096]
        return inside.copy_(tensor), memory

    with recorded() as launches:
        _triton.confusion(pred, target, sizes[0], sizes[1], -1)
    (launch,) = launches
    counts, memory = walled(torch.zeros_like(launch.arguments["p_counts"]), 7)
    inside = {"p_pred": walled(pred, 1)[0], "p_target": walled(target, 1)[0], "p_counts": counts}
    launch.kernel[launch.blocks](**(launch.arguments | inside), **launch.options)
    assert (memory[:4096] == 7).all()
    assert (memory[-4096:] == 7).all()
    expected = _reference.confusion(pred.cpu(), target.cpu(), sizes[0], sizes[1], -1)
    assert torch.equal(counts.cpu(), expected)


@pytest.mark.parametrize("pixels", [1, 5_000_000, 3 * 2**31])
@pytest.mark.parametrize("sizes", [(1, 1), (27, 27), (45, 45), (46, 45), (40_000, 50_000)])
def test_launch(sizes, pixels):
    """Every pixel once, room for every count, and no count above int32."""
    labels = torch.empty(pixels, dtype=torch.uint8, device="meta")
    with recorded() as launches:
        counts = _triton.confusion(labels, labels, sizes[0], sizes[1], -1)
    pairs = sizes[0] * sizes[1]
    assert counts.shape == (pairs + 2,)
    (launch,) = launches
    arguments = launch.arguments
    assert set(arguments) == set(launch.kernel.arg_names)
    share = arguments["steps"] * arguments["BLOCK"]
    assert launch.blocks[0] * share >= pixels > (launch.blocks[0] - 1) * share
    assert share < 2**31
    assert launch.blocks[0] <= _triton.PROGRAMS
    assert arguments["BINS"] == 0 if pairs + 2 > 2048 else arguments["BINS"] >= pairs + 2
