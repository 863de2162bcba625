"""region_index and RegionIndex."""

import copy
import pickle
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import RegionIndex, region_index, region_pool

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

LABELS = torch.tensor([[[0, 0, 2, 2], [0, -7, 2, 4]], [[3, 3, 3, 3], [3, -1, -1, 3]]])


def runs_of(index: RegionIndex) -> list:
    return [image[:n].tolist() for image, n in zip(index.runs, index.num_runs, strict=True)]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_by_hand(dtype, backend):
    index = region_index(LABELS.to(dtype), 5, backend)
    assert index.num_regions == 5
    assert index.labels.tolist() == LABELS.clamp(min=-1).tolist()
    assert runs_of(index) == [
        [[0, 2, 0], [2, 4, 2], [4, 5, 0], [6, 7, 2], [7, 8, 4]],
        [[0, 4, 3], [4, 5, 3], [7, 8, 3]],  # no run goes on in the next row
    ]
    assert index.counts.tolist() == [[3, 0, 3, 0, 1], [0, 0, 0, 6, 0]]
    none = [0, 0, 0, 0]
    assert index.boxes.tolist() == [
        [[0, 0, 2, 2], none, [0, 2, 2, 4], none, [1, 3, 2, 4]],
        [none, none, none, [0, 0, 2, 4], none],
    ]
    assert all(t.dtype == torch.int32 and t.is_contiguous() for t in index.tensors)


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 40), st.integers(1, 6))
def test_runs_are_the_labels_again(seed, height, width, regions):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, regions, (2, height, width), generator=rng)
    labels = labels.repeat_interleave(3, 2)[..., :width]
    for name in ("auto", "reference"):
        index = region_index(labels, regions, name)
        for image, runs in zip(labels, runs_of(index), strict=True):
            drawn = torch.full((height * width,), -1)
            for first, end, region in runs:
                assert first // width == (end - 1) // width
                assert (drawn[first:end] == -1).all()
                drawn[first:end] = region
            assert torch.equal(drawn.view(height, width), image)
            assert runs == sorted(runs)
        for b, r in torch.nonzero(index.counts).tolist():
            y, x = torch.nonzero(labels[b] == r, as_tuple=True)
            box = [y.min(), x.min(), y.max() + 1, x.max() + 1]
            assert index.boxes[b, r].tolist() == [int(v) for v in box]
            assert index.counts[b, r] == len(y)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_of_nothing(shape, backend):
    index = region_index(torch.zeros(shape, dtype=torch.int64), 3, backend)
    assert index.num_runs.tolist() == [0] * shape[0]
    assert not index.counts.any()
    assert not index.boxes.any()
    assert index.boxes.shape == (shape[0], 3, 4)


def test_it_does_not_follow_its_labels():
    labels = LABELS.int()
    index = region_index(labels, 5)
    labels.zero_()
    assert index.labels[0, 0, 2] == 2


@pytest.mark.parametrize("remake", [lambda index: pickle.loads(pickle.dumps(index)), copy.deepcopy])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:0], LABELS[:, :0]])
def test_it_can_be_kept(labels, remake):
    index = region_index(labels, 5)
    again = remake(index)
    assert runs_of(again) == runs_of(index)
    for name in ("labels", "num_runs", "counts", "boxes"):
        assert torch.equal(getattr(again, name), getattr(index, name))
    x = torch.rand(len(labels), 2, *labels.shape[1:])
    assert torch.equal(region_pool(x, again), region_pool(x, index))


def test_a_pickle_leaves_out_what_is_spare():
    index = region_index(torch.zeros(1, 200, 200, dtype=torch.int32), 1)
    assert len(pickle.dumps(index)) < 1.1 * index.labels.nbytes + 8192


def test_it_moves():
    index = region_index(LABELS, 5).to("meta")
    assert all(t.is_meta for t in index.tensors)
    assert index.num_regions == 5


def test_it_is_a_sound_operator(backend):
    for view in (LABELS, LABELS.int(), LABELS.mT):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
            operator = torch.ops.fastseg.region_index.default
            torch.library.opcheck(operator, (view, 5, backend))


@pytest.mark.parametrize("label", [5, 2**31, 2**32 + 1, 2**62])
def test_a_label_out_of_range_is_named(label, backend):
    labels = LABELS.clone()
    labels[1, 1, 2] = label
    message = rf"`labels` must be less than `num_regions` \(5\), got {label} at index \(1, 1, 2\)"
    with pytest.raises(ValueError, match=message):
        region_index(labels, 5, backend)


def test_far_negative_labels_are_ignored(backend):
    labels = torch.tensor([[[1, -(2**32) + 1, -(2**63)]]])
    index = region_index(labels, 2, backend)
    assert index.labels.tolist() == [[[1, -1, -1]]]
    assert runs_of(index) == [[[0, 1, 1]]]


def test_more_pixels_than_an_int32_counts_are_refused():
    labels = torch.zeros(1, 1, 1, dtype=torch.int32).expand(1, 2**16, 2**15)
    with pytest.raises(ValueError, match=r"at most 2147483647 pixels an image, got 65536×32768"):
        region_index(labels, 1)
