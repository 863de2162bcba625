"""confusion: counts of pairs of labels."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg.ops.confusion import confusion

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

DTYPES = [torch.uint8, torch.int16, torch.int32, torch.int64]


def labels(count, *shape, seed=0, dtype=torch.int64, low=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(low, count, shape, generator=rng).to(dtype)


def brute_force(pred, target, clusters, classes, ignore=-1):
    counts = np.zeros((clusters, classes), int)
    for p, t in zip(pred.flatten().tolist(), target.flatten().tolist(), strict=True):
        if p >= 0 and t >= 0 and t != ignore:
            counts[p, t] += 1
    return [*counts.flatten().tolist(), 0, 0]


def test_by_hand(backend):
    pred, target = torch.tensor([0, 0, 1, 1, -1, 1]), torch.tensor([2, 2, 0, -1, 0, 1])
    assert confusion(pred, target, 2, 3, backend=backend).tolist() == [0, 0, 2, 1, 1, 0, 0, 0]
    assert confusion(pred, target, 2, 3, 2, backend=backend).tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("of_target", DTYPES)
@pytest.mark.parametrize("of_pred", DTYPES)
def test_equals_a_loop(of_pred, of_target, backend):
    pred = labels(7, 3, 11, 41, dtype=of_pred, low=-1 if of_pred.is_signed else 0)
    target = labels(4, 3, 11, 41, seed=1, dtype=of_target, low=-1 if of_target.is_signed else 0)
    for ignore in (-1, 2, 255):
        counts = confusion(pred, target, 7, 4, ignore, backend)
        assert counts.dtype == torch.int64
        assert counts.tolist() == brute_force(pred, target, 7, 4, ignore)


@given(st.integers(0, 2**32), st.integers(0, 3000), st.integers(1, 50), st.integers(1, 50))
def test_equals_bincount(seed, pixels, clusters, classes):
    pred, target = labels(clusters, pixels, seed=seed), labels(classes, pixels, seed=seed + 1)
    expected = torch.bincount(pred * classes + target, minlength=clusters * classes)
    assert torch.equal(confusion(pred, target, clusters, classes)[:-2], expected)


def test_on_every_instruction_set(native):
    pred, target = labels(27, 5000, low=-1), labels(27, 5000, seed=1, low=-1)
    expected = confusion(pred, target, 27, 27, backend="reference")
    for isa in native.isas():
        native.set_isa(isa)
        assert torch.equal(confusion(pred, target, 27, 27, backend="native"), expected), isa


def test_threads_and_many_pairs(backend, threads):
    for count in (3, 100):  # the latter with a counter a pair, the former with several
        pred, target = labels(count, 300_000), labels(count, 300_000, seed=1)
        expected = torch.bincount(pred * count + target, minlength=count**2)
        for number in threads:
            torch.set_num_threads(number)
            assert torch.equal(confusion(pred, target, count, count, -1, backend)[:-2], expected)


def test_takes_any_layout(backend):
    pred, target = labels(5, 4, 6, 7), labels(3, 4, 6, 7, seed=1)
    expected = confusion(pred, target, 5, 3, backend=backend)
    assert torch.equal(confusion(pred.mT, target.mT, 5, 3, backend=backend), expected)
    odd = torch.stack([pred, pred], -1)[..., 0]
    assert torch.equal(confusion(odd, target, 5, 3, backend=backend), expected)
    one = torch.zeros((), dtype=torch.int32)
    assert confusion(one, one, 1, 1, backend=backend).tolist() == [1, 0, 0]
    assert confusion(pred[:0], target[:0], 2, 1, backend=backend).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_too_large(dtype, backend):
    """Named, whatever else is wrong, unless the pixel is left out."""
    good = torch.zeros(2000, dtype=dtype)
    bad = good.clone()
    bad[1500:1503] = 3
    with pytest.raises(ValueError, match="`pred` must be below 3, got 3 pixels that are not"):
        confusion(bad, good, 3, 4, backend=backend)
    with pytest.raises(ValueError, match="`target` must be below 2, got 3 pixels that are not"):
        confusion(good, bad, 3, 2, backend=backend)
    assert confusion(good, bad, 1, 1, 3, backend).tolist() == [1997, 0, 0]
    assert confusion(bad, bad, 1, 1, 3, backend).tolist() == [1997, 0, 0]


def test_int64_labels_far_outside(backend):
    pred = torch.tensor([2**40, -(2**40), 0])
    with pytest.raises(ValueError, match="`pred` must be below 2, got 1 pixels"):
        confusion(pred, torch.zeros(3).long(), 2, 2, backend=backend)
    with pytest.raises(ValueError, match="`target` must be below 2, got 1 pixels"):
        confusion(torch.zeros(3).long(), pred, 2, 2, backend=backend)


def test_sound_operator(backend):
    pred, target = labels(3, 4, 5), labels(2, 4, 5, seed=1)
    for view in (pred, pred.t().contiguous().t()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
            torch.library.opcheck(
                torch.ops.fastseg.confusion.default, (view, target, 3, 2, -1, backend)
            )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_compiles_whole(backend):
    pred, target = labels(3, 40), labels(2, 40, seed=1)

    def count(pred, target):
        return confusion(pred, target, 3, 2, backend=backend)[:-2].view(3, 2)

    compiled = torch.compile(count, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(pred, target), count(pred, target))


L = torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pred": [0]}, TypeError, "`pred` must be a torch.Tensor, got list"),
        ({"pred": L.float()}, TypeError, "`pred` must be uint8 or .* int64, got float32"),
        ({"target": L.bool()}, TypeError, "`target` must be uint8 or .* int64, got bool"),
        ({"target": L[:3]}, ValueError, r"`target` must have shape \(4\), got \(3,\)"),
        ({"target": L.to("meta")}, ValueError, r"`target` must be on the device of `pred`"),
        ({"num_clusters": 0}, ValueError, "`num_clusters` must be an integer of at least 1, got 0"),
        ({"num_classes": 2.0}, TypeError, "`num_classes` must be an integer, got float"),
        ({"ignore_index": None}, TypeError, "`ignore_index` must be an integer, got NoneType"),
        (
            {"num_clusters": 2**20, "num_classes": 2**20},
            ValueError,
            "`num_clusters`·`num_classes` must be at most",
        ),
        ({"backend": "cuda"}, RuntimeError, "'cuda' cannot run confusion: it has no kernel"),
    ],
)
def test_refusals(change, error, message):
    with pytest.raises(error, match=message):
        confusion(**{"pred": L, "target": L, "num_clusters": 2, "num_classes": 2, **change})


def test_the_kernel_refuses_buffers_that_do_not_fit(native):
    ints = lambda n: np.zeros(n, np.int64)  # noqa: E731
    good = {
        "pred": ints(4),
        "target": ints(4),
        "counts": ints(9),
        "ignored": -1,
        "clusters": 2,
        "threads": 1,
    }
    native.confusion(**good)
    for name, value, error in (
        ("pred", np.zeros(4), TypeError),
        ("target", ints(3), ValueError),
        ("target", ints(8)[::2], ValueError),
        ("counts", ints(3), ValueError),
        ("counts", ints(8), ValueError),
        ("counts", np.zeros(9), TypeError),
    ):
        with pytest.raises(error, match=f"`{name}` "):
            native.confusion(**{**good, name: value})
