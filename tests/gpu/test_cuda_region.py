"""csrc/cuda/region.cu gives what the other backends do, on the CPU (conftest.py)."""

from types import ModuleType
from typing import Any

import pytest
import torch

from fastseg import RegionIndex, region_index
from fastseg.ops.region import _reference
from fastseg.ops.region._index import widened
from tests.gpu.region_problems import (
    ALL_FLOATS,
    FLOATS,
    assert_all_equal,
    assert_maxima,
    assert_sums,
    blobs,
    layouts,
    problem,
    shapes,
    values,
)


@pytest.fixture
def cuda(launcher) -> ModuleType:
    return launcher("region")


# --- Same as the other backends ----------------------------------------------------------------


@shapes
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_index(shape, dtype, cuda):
    batch, _, height, width, regions = shape
    labels = blobs(batch, height, width, regions).to(dtype)
    labels = torch.where(labels < 0, -labels - 9, labels)  # any negative number
    for given in (labels, labels.mT.contiguous().mT):
        copy, runs, *rest = cuda.region_index(given, regions)
        expected = region_index(labels, regions, "reference")
        assert torch.equal(copy, expected.labels)
        assert_all_equal(rest, (expected.num_runs, expected.counts, expected.boxes))
        for b, n in enumerate(expected.num_runs):
            assert torch.equal(runs[b, :n], expected.runs[b, :n])


def test_labels_beyond_the_last_region_are_left_out(cuda):
    labels = torch.tensor([[[0, 5, 5, 1], [2, 2**31, 0, 2**40]]])
    *_, counts, boxes = cuda.region_index(labels, 2)
    assert counts.tolist() == [[2, 1]]
    assert boxes.tolist() == [[[0, 0, 2, 3], [0, 3, 1, 4]]]
    known = torch.tensor([[[0, -1, -1, 1], [-1, -1, 0, -1]]])
    large = torch.tensor([[[0, 5, 2, 1], [2, 9, 0, 2**31 - 1]]], dtype=torch.int32)
    good = region_index(known, 2, "reference")
    bad = RegionIndex(large, *good.tensors[1:])
    x = values((1, 3, 2, 4), torch.float32, False)
    assert torch.equal(cuda.region_sum(x, bad), cuda.region_sum(x, good))
    z = values((1, 2, 3, 1), torch.float32, False)[..., 0]
    assert_all_equal(*([cuda.region_unpool(z, of, torch.empty_like(x))] for of in (bad, good)))


@layouts
@shapes
@pytest.mark.parametrize("dtype", ALL_FLOATS)
def test_pooling(shape, dtype, channels_last, cuda, host, poisoned):
    x, index = problem(shape, dtype, channels_last)
    assert_sums(cuda.region_sum(x, index), x, index)
    assert_maxima(cuda.region_max(x, index), x, index)
    used = [launch["kernel"] for launch in host.launches]
    few = {200: 0 if dtype == torch.float64 else 2, 500: 0}.get(shape[-1], 2)
    assert sum("boxes" in kernel for kernel in used) == 2 - few


@layouts
@pytest.mark.parametrize("dtype", ALL_FLOATS)
def test_pooling_in_parts(dtype, channels_last, cuda, host, monkeypatch, poisoned):
    monkeypatch.setattr(cuda, "LEAST_PART", 50)
    monkeypatch.setattr(cuda, "MULTIPROCESSORS", 2)
    x, index = problem((2, 37, 23, 19, 6), dtype, channels_last)
    x[:, 1], x[:, 2], x[0, 3, 4, 5] = 1, -torch.inf, torch.nan
    assert_maxima(cuda.region_max(x, index), x, index)
    x[:, 2:4] = 0
    assert_sums(cuda.region_sum(x, index), x, index)
    assert [int(launch["parts"]) for launch in host.launches] == [8] * 4
    assert host.launches[0]["grid"] == 2 * 2 * 8


def test_parts_fill_the_card(cuda):
    """An H200 has 132·16 blocks of 10 KB at a time, and 132·6 of 33 KB."""
    assert cuda._parts(1, 2000, 9, 10_000) == 1  # not worth a join
    assert cuda._parts(5000, 40_000, 9, 10_000) == 1  # enough images
    assert cuda._parts(120, 40_000, 36, 10_000) == 17
    assert cuda._parts(120, 40_000, 225, 33_000) == 6
    assert cuda._parts(500, 40_000, 36, 33_000) == 3  # two turns with one block in twenty idle
    assert cuda._parts(1, 2**31 - 1, 36, 10_000) == 32_769  # of at most 65,535 pixels


@pytest.mark.parametrize("regions", [3, 400])
def test_maxima_of_large_regions(regions, cuda, host, monkeypatch):
    """More pixels than a 16-bit number counts."""
    monkeypatch.setattr(cuda, "LEAST_PART", 10**6)
    index = region_index(torch.arange(260)[:, None].expand(1, 260, 260) // 259, regions)
    x = torch.arange(260.0 * 260).view(1, 1, 260, 260)
    assert cuda.region_max(x, index)[1][0, :3].tolist() == [[259 * 260 - 1], [260 * 260 - 1], [-1]]
    assert cuda.region_max(-x, index)[1][0, :3].tolist() == [[0], [259 * 260], [-1]]
    walks = [launch.get("parts") for launch in host.launches]
    assert walks == ([2] * 4 if regions == 3 else [None] * 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_is_read_as_it_is(dtype, cuda):
    """Each number, subnormal, infinite or none, is the maximum of a region of its own."""
    x = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype).view(1, 32, 32, 64)
    index = region_index(torch.arange(2048).view(1, 32, 64), 2048)
    assert_maxima(cuda.region_max(x, index), x, index)
    small = region_index(torch.arange(2048).view(1, 32, 64) // 16, 128)
    assert_maxima(cuda.region_max(x, small), x, small)


@layouts
@pytest.mark.parametrize("regions", [3, 400])
def test_maxima_of_what_is_not_ordinary(regions, channels_last, cuda):
    x, _ = problem((1, 5, 9, 11, regions), torch.float32, channels_last)
    index = region_index(blobs(1, 9, 11, 3), regions, "reference")
    x[:, 0], x[:, 1], x[:, 2] = 2, -torch.inf, torch.inf
    x[0, 3, 3:5, 4:7] = torch.nan
    assert_all_equal(cuda.region_max(x, index), _reference.region_max(x, index))


@layouts
@shapes
@pytest.mark.parametrize("dtype", ALL_FLOATS)
def test_unpooling(shape, dtype, channels_last, cuda, poisoned):
    x, index = problem(shape, dtype, channels_last)
    z = torch.randn((shape[0], shape[1], shape[4]), generator=torch.Generator()).to(dtype).mT
    actual = cuda.region_unpool(z, index, torch.empty_like(x))
    assert_all_equal([actual], [_reference.region_unpool(z, index, torch.empty_like(x))])


@layouts
@shapes
@pytest.mark.parametrize("dtype", ALL_FLOATS)
def test_gradient_of_maxima(shape, dtype, channels_last, cuda, host, poisoned):
    x, index = problem(shape, dtype, channels_last)
    _, at = _reference.region_max(x, index)
    z = torch.randn((shape[0], shape[1], shape[4]), generator=torch.Generator()).to(dtype).mT
    expected = _reference.region_scatter(z, at, None, torch.empty_like(x))
    actual = cuda.region_scatter(z, at, index.labels, torch.empty_like(x))
    assert_all_equal([actual], [expected])
    (launch,) = host.launches
    assert "place" in launch["kernel"]


@layouts
@pytest.mark.parametrize("dtype", ALL_FLOATS)
@pytest.mark.parametrize("size", [(5, 7), (20, 40), (1, 33)])
def test_scattering(size, dtype, channels_last, cuda, host, poisoned):
    """Several may go to one pixel."""
    out = values((2, 35, *size), dtype, channels_last)
    rng = torch.Generator().manual_seed(2)
    at = torch.randint(-1, size[0] * size[1], (2, 41, 35), generator=rng, dtype=torch.int32)
    at[:, 1::3] = at[:, 0::3][:, : len(at[0, 1::3])]
    z = torch.randn((2, 35, 41), dtype=dtype, generator=rng).mT
    expected = _reference.region_scatter(z, at, None, torch.empty_like(out))
    actual = cuda.region_scatter(z, at.mT.contiguous().mT, None, torch.empty_like(out))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    (launch,) = host.launches
    assert launch["grid"] == 2 * 2 * -(-size[0] * size[1] // int(launch["pixels"]))


@layouts
@pytest.mark.parametrize("fill", [0.0, None, 1.5])
@pytest.mark.parametrize("levels", [[1, 2, 4], [7, 1]])
def test_pyramid(levels, fill, channels_last, cuda, poisoned):
    for shape in ((2, 5, 13, 17, 6), (1, 33, 9, 12, 20)):
        for dtype in ALL_FLOATS:
            x, index = problem(shape, dtype, channels_last)
            x[:, :, 3, 4] = torch.nan
            actual = cuda.region_spp(x, index, levels, fill, True)
            assert_all_equal(actual, _reference.region_spp(widened(x), index, levels, fill, True))
    maxima, none = cuda.region_spp(x, index, levels, fill, False)
    assert_all_equal([maxima], actual[:1])
    assert none.numel() == 0


@layouts
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [(8, 8), (1, 3), (5, 30)])
def test_resampled_boxes_and_their_adjoint(size, dtype, channels_last, cuda, poisoned):
    for shape in ((2, 5, 13, 17, 6), (1, 33, 9, 12, 20)):
        x, index = problem(shape, dtype, channels_last)
        actual = cuda.region_resize(x, index, size)
        expected = _reference.region_resize(x.double(), index, size)
        tolerance: Any = {"rtol": 0, "atol": 200 * torch.finfo(dtype).eps}
        torch.testing.assert_close(actual.double(), expected, **tolerance)
        assert actual.dtype == dtype
        z = torch.randn(actual.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
        back = cuda.region_spread(z, index, torch.empty_like(x)).double()
        exact = _reference.region_spread(z.double(), index, torch.empty_like(x).double())
        most = max(1.0, float(exact.abs().max()))
        torch.testing.assert_close(back, exact, rtol=0, atol=tolerance["atol"] * most)
