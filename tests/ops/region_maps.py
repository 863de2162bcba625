"""Label maps and tensors for the tests of region operators."""

import numpy as np
import torch


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def patches(batch, height, width, regions, seed=0, ignored=0.1):
    """Labels (B,H,W) int64 in runs of up to 12 pixels, some of them ignored."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, regions, (batch, height, width))
    labels[rng.random(labels.shape) < ignored] = -1
    reach = rng.integers(1, 13, (batch, height, 1))
    column = np.arange(width) // reach * reach
    return torch.from_numpy(np.take_along_axis(labels, column, 2))


def blobs(batch, height, width, regions, seed=0):
    """The nearest of `regions` random points, a few pixels ignored: int64 (B,H,W)."""
    rng = torch.Generator().manual_seed(seed)
    points = torch.rand((batch, regions, 2), generator=rng) * torch.tensor([height, width])
    grid = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    labels = torch.cdist(grid.expand(batch, -1, -1), points).argmin(2)
    labels[torch.rand(labels.shape, generator=rng) < 0.05] = -1
    return labels.view(batch, height, width)


def boxes_of(x, labels, regions):
    """(b, r, the pixels of the box (C,h,w), which of them are of the region), where there are."""
    for b in range(len(x)):
        for r in range(regions):
            rows, columns = torch.nonzero(labels[b] == r, as_tuple=True)
            if len(rows):
                down = slice(rows.min(), rows.max() + 1)
                across = slice(columns.min(), columns.max() + 1)
                yield b, r, x[b][:, down, across], labels[b][down, across] == r
