"""The synthetic set: `fruits`."""

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from fastseg.data import DataError, open_dataset
from fastseg.data.fruits import FRUITS, Fruits


def test_splits_are_parts_of_one_sequence():
    counts = {"train": 10_000, "val": 1_500, "test": 1_500, "all": 13_000}
    sets = {split: open_dataset("fruits", split) for split in counts}
    assert {split: len(dataset) for split, dataset in sets.items()} == counts
    whole = sets["all"]
    for split, first in (("train", 0), ("val", 10_000), ("test", 11_500)):
        assert sets[split][7].key == whole[first + 7].key
        assert (sets[split][7].image == whole[first + 7].image).all()
    assert (sets["train"][7].image != sets["test"][7].image).any()


def test_samples_depend_on_seed_and_number_alone():
    one, other, again = Fruits(seed=3), Fruits(seed=4), Fruits(seed=3)
    again[17]
    for index in (0, 9_999):
        assert one[index].key == again[index].key != other[index].key
        assert (one[index].image == again[index].image).all()
        assert (one[index].image != other[index].image).any()


def test_all_are_before_one_sky():
    dataset: Any = Fruits()
    samples = [dataset[i] for i in range(60)]
    images, labels = (np.stack([s[i] for s in samples]) for i in (1, 2))
    assert (images.dtype, labels.dtype, images.shape[1:]) == (np.uint8, np.int16, (64, 64, 3))
    # Edges are mixed with what is behind them, so the sky is seen a pixel away from any fruit.
    near = binary_dilation(labels > 0, np.ones((1, 3, 3)))
    for y, x in ((0, 0), (20, 30), (40, 10), (63, 63)):
        seen = images[~near[:, y, x], y, x]
        assert len(seen) > 10
        assert (seen == seen[0]).all()
    shares = np.bincount(labels.ravel(), minlength=4) / labels.size
    assert shares == pytest.approx([0.76, 0.095, 0.08, 0.065], abs=0.02)
    assert all(set(np.unique(s.labels)) <= {0, 1, 2, 3} for s in samples)
    border = np.ones((64, 64), bool)
    border[1:-1, 1:-1] = False
    assert (labels[:, border] == 0).all()  # no fruit is cut off


def test_the_sky_varies_more_than_any_fruit():
    dataset: Any = Fruits()
    images, labels = (np.stack([dataset[i][part] for i in range(60)]) for part in (1, 2))
    spread = [images[labels == k].astype(float).var(0).sum() for k in range(4)]
    assert spread[0] > 4 * max(spread[1:])


def test_fruits_have_outline_and_shading():
    """A fruit is dark all round where it ends, and not flat within."""
    y, x = np.mgrid[-17:18, -17:18].astype(float)
    for draw, reach in FRUITS:
        distance, paint = draw(x, y)
        assert (distance[np.hypot(x, y) > reach] > 0.5).all()
        light = paint.sum(-1)
        rim, body = abs(distance + 0.6) < 0.3, (distance < -2) & (distance > -5)
        assert light[rim].max() < light[body].mean()
        assert light[distance < -2].std() > 25


def test_turned_fruits_have_smooth_edges_and_areas_that_stay():
    """A mask says where a pixel's centre is; the picture mixes in what the fruit covers of it."""
    dataset: Any = Fruits()
    areas = np.array([np.bincount(dataset[i].labels.ravel(), minlength=4) for i in range(300)])
    for fruit, area in zip((1, 2, 3), (490, 410, 314), strict=True):
        assert areas[:, fruit].max() == pytest.approx(area, rel=0.04)
    image, labels = dataset[0].image.astype(int), dataset[0].labels
    ring = binary_dilation(labels > 0) & (labels == 0)
    sky = dataset.sky.clip(0, 255)
    mixed = abs(image[ring] - sky[ring]).max(-1) > 3
    assert 0.3 < mixed.mean() < 0.9


def test_fruits_hide_each_other():
    """Any may be in front: each is seen whole, and each hidden in part."""
    dataset: Any = Fruits()
    areas = np.array([np.bincount(dataset[i].labels.ravel(), minlength=4) for i in range(300)])
    most = areas.max(0)[1:]
    assert (areas[:, 1:] > 0.97 * most).any(0).all()
    assert (areas[:, 1:] < 0.7 * most).any(0).all()


def test_bad_specs():
    with pytest.raises(DataError, match=r"fruits are drawn, .* need no path, got '/x'"):
        open_dataset("fruits:/x")
    with pytest.raises(DataError, match=r"must be one of train, val, test, all, got 'dev'"):
        open_dataset("fruits", "dev")
