"""Problems for the tests of csrc/cuda/region.cu."""

from typing import Any

import pytest
import torch

from fastseg import RegionIndex, region_index
from fastseg.ops.region import _reference
from fastseg.ops.region._index import wide, widened

FLOATS = (torch.float32, torch.float64)
ALL_FLOATS = (*FLOATS, torch.float16, torch.bfloat16)


def blobs(batch: int, height: int, width: int, regions: int, seed: int = 0) -> torch.Tensor:
    """Each pixel is of the nearest of random points; some are ignored, some regions are empty."""
    rng = torch.Generator().manual_seed(seed)
    at = torch.rand(batch, max(1, regions - 1), 2, generator=rng)
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    away = (y - at[..., 0, None, None]) ** 2 + (x - at[..., 1, None, None]) ** 2
    labels = away.argmin(1)
    return torch.where(torch.rand(labels.shape, generator=rng) < 0.1, -1, labels)


def values(shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool) -> torch.Tensor:
    x = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    return x.to(memory_format=torch.channels_last) if channels_last else x


# B, C, H, W, R; the last need more shared memory than there is, in some or in all dtypes
SHAPES = [(2, 5, 13, 37, 6), (1, 33, 21, 20, 9), (2, 1, 1, 1, 1), (1, 70, 7, 5, 3)]
SHAPES += [(1, 3, 30, 29, 200), (1, 34, 24, 24, 500)]
layouts = pytest.mark.parametrize("channels_last", [False, True], ids=["planes", "rows"])
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def problem(shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool):
    batch, channels, height, width, regions = shape
    labels = blobs(batch, height, width, regions)
    x = values((batch, channels, height, width), dtype, channels_last)
    return x, region_index(labels, regions, "reference")


def assert_sums(actual: torch.Tensor, x: torch.Tensor, index: RegionIndex):
    exact = _reference.region_sum(x.double(), index)
    bound = 4 * torch.finfo(wide(x.dtype)).eps * _reference.region_sum(x.double().abs(), index)
    assert actual.dtype == wide(x.dtype)
    assert ((actual - exact).abs() <= bound).all()


def assert_maxima(actual: Any, x: torch.Tensor, index: RegionIndex):
    assert_all_equal(actual, _reference.region_max(widened(x), index))


def assert_all_equal(actual: Any, expected: Any):
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
