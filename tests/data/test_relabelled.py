"""Pictures with labels that a method has made: `fastseg.data.relabelled`."""

from itertools import chain

import numpy as np
import pytest
import torch

from fastseg.data import Geometry, batches
from fastseg.data.relabelled import Relabelled
from tests.data.test_batches import Blocks

GEOMETRIES = (
    Geometry((8, 10), short=7),  # narrower than the cut
    Geometry((8, 4), scale=0.5),
    Geometry(multiple=4),  # whole pictures
)


def made(geometry, places):
    """Labels of red, by place, as evaluation sees the pictures; and these pictures."""
    seen = batches(Blocks(), geometry, 3, seed=1, epoch=0, train=False, use_void=False)
    pictures = {}
    for place, (image, valid) in enumerate(
        chain.from_iterable(zip(batch.images, batch.valid, strict=True) for batch in seen)
    ):
        labels = (image[0] > 0.5).to(torch.int8).masked_fill(~valid, -1)
        pictures[place] = image, labels
    return {place: pictures[place][1].numpy() for place in places}, pictures


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_picture_is_what_evaluation_sees_mirrored_or_not(geometry):
    places = (1, 4, 5, 9)
    labels, pictures = made(geometry, places)
    dataset = Relabelled(Blocks(), geometry, labels)
    assert len(dataset) == 4
    mirrored = set()
    for epoch in range(4):
        found = batches(dataset, dataset.geometry, 2, seed=0, epoch=epoch, labels=True)
        keys = []
        for batch in found:
            assert batch.labels is not None
            for i, key in enumerate(batch.keys):
                keys.append(key)
                image, own = pictures[int(key.split()[1])]
                valid = own >= 0
                height, width = (int(valid.any(axis).sum()) for axis in (1, 0))
                top, left = (int(valid.any(axis).int().argmax()) for axis in (1, 0))
                part = ..., slice(top, top + height), slice(left, left + width)
                assert torch.equal(batch.valid[i], batch.labels[i] >= 0)
                assert batch.valid[i].sum() == height * width
                got = batch.labels[i][batch.valid[i]].reshape(height, width)
                pixels = batch.images[i][:, batch.valid[i]].reshape(3, height, width)
                turned = not torch.equal(got, own[part].long())
                mirrored.add(turned)
                assert torch.equal(got.flip(1) if turned else got, own[part].long())
                assert torch.equal(pixels.flip(2) if turned else pixels, image[part])
        assert sorted(keys) == [f"block {place}" for place in places]
    assert mirrored == {True, False}


def test_the_truth_is_left_behind():
    labels, _ = made(GEOMETRIES[1], (0, 3))
    dataset = Relabelled(Blocks(), GEOMETRIES[1], labels)
    for index, place in enumerate((0, 3)):
        found = dataset[index].labels
        assert found is not None
        assert np.array_equal(found, labels[place])
    assert list(dataset.classes) == ["0", "1"]
    assert len(Relabelled(Blocks(), GEOMETRIES[1], {})) == 0
