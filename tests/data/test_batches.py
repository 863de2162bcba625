"""From samples to batches: `fastseg.data.batches`."""

import sys
import threading
import time
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from fastseg.data import Batch, DataError, Dataset, Geometry, Sample, batches, count_batches

SLIC = ({"n_segments": 6, "compactness": 5.0}, {"n_segments": 2, "compactness": 5.0})


class Blocks(Dataset):
    """Pictures of several sizes; every fourth has no truth, void is at the left."""

    classes: tuple[str, ...] = ("dark", "bright")
    channels = 3

    def __init__(self, count=10, sizes=((20, 16), (12, 24), (9, 9))):
        self.count, self.sizes = count, sizes

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        height, width = self.sizes[index % len(self.sizes)]
        image = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        labels = (image[..., 0] > 128).astype(np.int16)
        labels[:, 0] = -1
        return Sample(f"block {index}", image, None if index % 4 == 3 else labels)


def epoch(dataset=None, geometry=None, size=4, **options):
    chosen = {"seed": 1, "epoch": 0, **options}
    return list(batches(dataset or Blocks(), geometry or Geometry(8), size, **chosen))


def numbers(found):
    return [[int(key.split()[1]) for key in batch.keys] for batch in found]


def equal(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys == other.keys
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.valid, other.valid)
        assert torch.equal(one.seeds, other.seeds)
        assert len(one.superpixels) == len(other.superpixels)
        assert all(map(torch.equal, one.superpixels, other.superpixels))
        assert (one.labels is None) is (other.labels is None)
        assert one.labels is None or torch.equal(one.labels, other.labels)


# --- what a batch holds -------------------------------------------------------------------------


def test_evaluation_takes_centres_in_order():
    found = epoch(train=False, superpixels=SLIC)
    assert numbers(found) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    batch, dataset = found[0], Blocks()
    kinds = (torch.float32, torch.bool, torch.int64, torch.int64)
    assert (batch.images.dtype, batch.valid.dtype, batch.labels.dtype, batch.seeds.dtype) == kinds
    assert batch.images.shape == (4, 3, 8, 8)
    assert batch.images.is_contiguous()
    _, image, labels = dataset[0]
    assert torch.equal(
        batch.images[0], torch.tensor(image[6:14, 4:12] / np.float32(255)).movedim(2, 0)
    )
    assert (batch.labels[0].numpy() == labels[6:14, 4:12]).all()
    assert (batch.labels[3] == -1).all()  # has no truth
    for maps in batch.superpixels:
        assert (maps.dtype, maps.shape) == (torch.int32, (4, 8, 8))
        for map_ in maps:
            assert map_.unique().tolist() == list(range(map_.max() + 1))
    assert batch.superpixels[0].max() > batch.superpixels[1].max()
    assert batch.regions == tuple(int(maps.max()) + 1 for maps in batch.superpixels)


def test_training_has_no_labels_unless_asked():
    for batch in epoch():
        assert batch.labels is None
    for batch in epoch(labels=True):
        known = [int(key.split()[1]) % 4 != 3 for key in batch.keys]
        assert ((batch.labels >= 0).flatten(1).any(1) == torch.tensor(known)).all()
        assert ((batch.labels >= 0) == batch.valid)[known].all()


def test_sets_without_truth_have_no_labels():
    class Bare(Blocks):
        classes = ()

        def __getitem__(self, index):
            return super().__getitem__(index)._replace(labels=None)

    assert all(b.labels is None and b.valid.all() for b in epoch(Bare(), train=False))


def test_void_is_not_valid_where_it_is_known():
    with_void = epoch(geometry=Geometry((9, 9)), train=False, size=10)[0]
    without = epoch(geometry=Geometry((9, 9)), train=False, size=10, use_void=False)[0]
    assert without.valid.all()
    assert (with_void.valid[2] == (torch.arange(9) > 0)).all()  # 9×9: its left column is void
    assert with_void.valid[3].all()  # has no truth
    assert (without.labels[2, :, 0] == -1).all()


def test_small_pictures_get_a_border():
    (batch,) = epoch(geometry=Geometry((13, 11)), train=False, size=10, superpixels=SLIC[:1])
    inside = torch.zeros(13, 11, dtype=torch.bool)
    inside[2:11, 1:10] = True
    assert torch.equal(batch.valid[2], inside & (torch.arange(11) > 1))
    assert (batch.images[2, :, ~inside] == 0).all()
    assert (batch.labels[2][~inside] == -1).all()
    assert torch.equal(batch.superpixels[0][2] >= 0, inside)


def test_whole_pictures_share_the_largest_size():
    (batch,) = epoch(geometry=Geometry(multiple=16), train=False, size=3, superpixels=SLIC[:1],
        dataset=Blocks(3))  # fmt: skip
    assert batch.images.shape == (3, 3, 32, 32)
    for i, (height, width) in enumerate(Blocks().sizes):
        inside = torch.zeros(32, 32, dtype=torch.bool)
        inside[:height, :width] = True
        assert torch.equal(batch.superpixels[0][i] >= 0, inside)
        assert (batch.images[i, :, ~inside] == 0).all()
        assert batch.images[i, :, inside].bool().float().mean() > 0.9


def test_everything_is_cut_alike():
    """A picture, its labels and its superpixels, each of which says what the others are."""

    class Stripes(Dataset):
        classes = tuple("abcd")
        channels = 1

        def __len__(self):
            return 40

        def __getitem__(self, index):
            labels = np.repeat(np.arange(4, dtype=np.int16), 6) * np.ones((24, 1), np.int16)
            return Sample(str(index), (60 * labels[..., None]).astype(np.uint8), labels)

    options = {"n_segments": 4, "compactness": 0.01}
    found = epoch(Stripes(), Geometry((24, 16)), 40, labels=True, superpixels=[options])[0]
    assert (found.labels == (found.images[:, 0] * 255 / 60).round().long()).all()
    assert len({tuple(row.tolist()) for row in found.labels[:, 0]}) > 8  # cuts and mirrored ones
    for labels, regions in zip(found.labels, found.superpixels[0], strict=True):
        assert regions.unique().tolist() == list(range(regions.max() + 1))
        for region in regions.unique():
            assert len(labels[regions == region].unique()) == 1


def test_density_of_superpixels_is_that_of_the_cut():
    large = Blocks(1, sizes=((64, 64),))
    square = {"n_segments": 16, "compactness": 1000.0}
    (batch,) = epoch(large, Geometry(32), 1, train=False, superpixels=[square])
    assert 16 <= len(batch.superpixels[0].unique()) <= 25  # those cut in two are counted too


# --- order, epochs, ranks -----------------------------------------------------------------------


def test_epochs_are_permutations_that_seeds_decide():
    dataset = Blocks(40)
    orders = [
        [*chain(*numbers(epoch(dataset, seed=s, epoch=e)))] for s, e in ((1, 0), (1, 1), (2, 0))
    ]
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    equal(epoch(dataset), epoch(dataset))


def test_incomplete_batches_are_left_out_of_training():
    assert [len(b.keys) for b in epoch(Blocks(10))] == [4, 4]
    assert [len(b.keys) for b in epoch(Blocks(3))] == [3]
    assert [len(b.keys) for b in epoch(Blocks(10), train=False)] == [4, 4, 2]
    for count in (1, 3, 4, 10, 12):
        for train in (False, True):
            found = epoch(Blocks(count), train=train)
            assert count_batches(Blocks(count), 4, train) == len(found)


def test_what_is_random_in_a_sample_is_its_own():
    """Whatever the batch size."""
    by_key: dict[str, Any] = {}
    for size in (1, 5):
        for batch in epoch(size=size, superpixels=SLIC):
            for i, key in enumerate(batch.keys):
                seen = (batch.seeds[i], batch.images[i], batch.superpixels[0][i])
                assert all(map(torch.equal, seen, by_key.setdefault(key, seen)))
    assert len({int(seed) for seed, _, _ in by_key.values()}) == 10
    other = {k: s for b in epoch(epoch=1) for k, s in zip(b.keys, b.seeds.tolist(), strict=True)}
    assert not set(other.values()) & {int(seed) for seed, _, _ in by_key.values()}


@pytest.mark.parametrize("start", [0, 1, 2, 3])
@pytest.mark.parametrize("train", [True, False])
def test_start_passes_over_batches(start, train):
    equal(epoch(start=start, train=train), epoch(train=train)[start:])


@pytest.mark.parametrize("train", [True, False])
def test_ranks_share_every_batch(train):
    whole = epoch(train=train, superpixels=SLIC)
    parts = [epoch(train=train, superpixels=SLIC, rank=r, world=4) for r in range(4)]
    if train:
        for i, batch in enumerate(whole):
            assert torch.equal(torch.cat([part[i].images for part in parts]), batch.images)
            assert torch.equal(torch.cat([part[i].seeds for part in parts]), batch.seeds)
    keys = [[key for batch in part for key in batch.keys] for part in parts]
    assert sorted(chain(*keys)) == sorted(key for batch in whole for key in batch.keys)
    assert all(len(batch.keys) for part in parts for batch in part)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers, tmp_path):
    options = {"size": 2, "superpixels": SLIC}
    equal(epoch(**options), epoch(**options, workers=workers, cache=tmp_path))


def test_to_a_device_and_back():
    batch = epoch(superpixels=SLIC, labels=True)[0].to("cpu")
    assert isinstance(batch, Batch)
    equal([batch], epoch(superpixels=SLIC, labels=True)[:1])


# --- what goes wrong ----------------------------------------------------------------------------


class Broken(Blocks):
    def __getitem__(self, index):
        if index == 5:
            raise DataError("picture 5 cannot be decoded")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_come_at_their_batch(workers):
    found = batches(Broken(), Geometry(8), 2, seed=0, epoch=0, train=False, workers=workers)
    assert numbers([next(found), next(found)]) == [[0, 1], [2, 3]]
    with pytest.raises(DataError, match="picture 5"):
        next(found)


@pytest.mark.parametrize("size", [1, 40])
def test_nothing_goes_on_when_nobody_looks(size):
    class Slow(Blocks):
        begun = 0

        def __getitem__(self, index):
            type(self).begun += 1
            time.sleep(0.01)
            return super().__getitem__(index)

    found = batches(Slow(10_000), Geometry(8), size, seed=0, epoch=0, workers=2)
    assert Slow.begun == 0
    next(found)
    found.close()  # type: ignore[attr-defined]
    begun = Slow.begun
    assert begun < 10 * size
    time.sleep(0.1)
    assert Slow.begun <= begun + 2
    deadline = time.monotonic() + 5
    while any("fastseg-batches" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline, sys._current_frames()
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0}, ValueError, "`batch_size` must be an integer of at least 1, got 0"),
        ({"seed": -1}, ValueError, "`seed` must be an integer of at least 0, got -1"),
        ({"workers": 1.0}, TypeError, "`workers` must be an integer, got float"),
        ({"rank": 2, "world": 2}, ValueError, "`rank` must be less than `world`, got 2 of 2"),
        ({"world": 3}, ValueError, "`batch_size` must be a multiple of `world`, got 4 of 3"),
        ({"dataset": Blocks(1), "world": 2}, DataError, "2 ranks need as many samples, .* has 1"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        epoch(**options)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (Sample("x", np.zeros((4, 4, 4), np.uint8), None), r"x must have 3 channels, got .*4, 4"),
        (Sample("x", np.zeros((4, 5, 3), np.uint8), np.zeros((4, 4), np.int16)),
         r"x is \(4, 5\), its labels are \(4, 4\)"),
    ],
)  # fmt: skip
def test_samples_must_be_what_the_set_says(sample, message):
    class Odd(Blocks):
        def __getitem__(self, index):
            return sample

    with pytest.raises(DataError, match=message):
        epoch(Odd())
