"""Batches to learn from."""

from dataclasses import replace
from typing import Any

import torch

import fastseg
from fastseg.data.base import Batch
from fastseg.methods import METHODS, Method

#: What makes each method small enough for tests that go over all of them.
ORDERED: dict[str, Any] = {"widths": (8, 8, 8, 8, 8), "attention": True, "orderings": "both"}
CUT = {"width": 4, "side": 32, "dropout": 0.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "ac": {**ORDERED, "radius": 2, "transform": "all"},
    "air": {**CUT, "hidden": (16,), "bottleneck": 4},
    "arl": {**ORDERED, "positions": 9, "dimensions": 16, "transform": "all"},
    "autoencoder": {"hidden": (16, 12, 8), "bottleneck": 4, "dropout": 0.0},
    "cirs": {**CUT, "hidden": (16,), "features": 8},
    "deepcluster": {"width": 4, "depth": 8, "pseudo_classes": 3},
    "iic": {"width": 4, "radius": 2, "alternate": False},
    "infoseg": {"width": 4, "features": 16},
    "inmars": {"backbone": "unet", "width": 4, "hidden": (8,), "finer": 4},
    "segnet": {"width": 4, "iterations": 5},
    "supervised": {"width": 4},
    "wnet": {"width": 4, "radius": 2},
}


def tiny(name: str, channels=3, classes=2, **options) -> Method:
    """The method with those options, its first weights always the same."""
    torch.manual_seed(0)
    kind = METHODS[name]
    return kind(kind.Config(**{**OPTIONS[name], **options}), channels, classes)


def batch(count=2, size=(32, 32), channels=3, superpixels=(), labels=False, seed=0):
    """A little noise on squares of two colours, with some invalid pixels."""
    rng = torch.Generator().manual_seed(seed)
    images = 0.1 + torch.rand((count, channels, *size), generator=rng) / 50
    images[:, :, size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] += 0.7
    valid = torch.ones((count, *size), dtype=torch.bool)
    valid[:, :3] = False
    truth = (images.mean(1) > 0.5).long().masked_fill(~valid, -1) if labels else None
    regions = tuple(fastseg.slic(images, **options) for options in superpixels)
    seeds = torch.arange(count) * 7919 + 11
    return Batch(images, valid, regions, seeds, tuple(map(str, range(count))), truth)


def shapes(count: int, seed: int = 0) -> Batch:
    """A red square somewhere on blue, 32×32."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, 3, 32, 32)
    images[:, 2] = 0.8
    truth = torch.zeros(count, 32, 32, dtype=torch.int64)
    for i, (y, x) in enumerate(torch.randint(0, 20, (count, 2), generator=rng).tolist()):
        square = slice(y, y + 12), slice(x, x + 12)
        images[i, 0][square], images[i, 2][square], truth[i][square] = 0.9, 0.1, 1
    valid = torch.ones(count, 32, 32, dtype=torch.bool)
    return Batch(images, valid, (), torch.arange(count), tuple(map(str, range(count))), truth)


def part(whole: Batch, rows: slice) -> Batch:
    """Some samples of a batch."""
    labels = None if whole.labels is None else whole.labels[rows]
    regions = tuple(x[rows] for x in whole.superpixels)
    return Batch(
        whole.images[rows],
        whole.valid[rows],
        regions,
        whole.seeds[rows],
        whole.keys[rows],
        labels,
    )


def halves(count=4, side=32, seed=0):
    """Pictures with a dark and a bright side, in each of four ways, with labels."""
    data = batch(count, (side, side), seed=seed)
    right = (torch.arange(side) >= side // 2).expand(side, -1)
    truth = torch.stack([torch.rot90(right, i) for i in range(count)])
    noise = torch.rand(data.images.shape, generator=torch.Generator().manual_seed(seed)) / 50
    return replace(data, images=0.1 + 0.7 * truth[:, None] + noise, labels=truth.long())
