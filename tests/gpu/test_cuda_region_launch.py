"""How csrc/cuda/region.cu is launched, on the CPU (conftest.py), and on a GPU if there is one."""

from dataclasses import fields
from types import ModuleType
from typing import Any

import pytest
import torch

from fastseg import RegionIndex, backends, region_index, region_pool, region_spp
from fastseg.ops.region import _reference
from fastseg.ops.region._index import widened
from tests.gpu.region_problems import (
    ALL_FLOATS,
    FLOATS,
    assert_all_equal,
    assert_maxima,
    assert_sums,
    layouts,
    problem,
    shapes,
)


@pytest.fixture
def cuda(launcher) -> ModuleType:
    return launcher("region")


@pytest.mark.parametrize("regions", [6, 400])
def test_any_order_of_threads(regions, host, cuda, monkeypatch):
    """Threads in order, in the opposite order and in random ones: were there a race, some other
    result would be likely."""
    monkeypatch.setattr(cuda, "LEAST_PART", 100)
    x, index = problem((1, 34, 20, 33, regions), torch.float32, False)
    z = torch.randn(1, regions, 34, generator=torch.Generator().manual_seed(0))
    results = []
    for host.order in (0, 1, 2, 3):
        maxima, at = cuda.region_max(x, index)
        out = [cuda.region_sum(x, index), maxima, at, *cuda.region_spp(x, index, [1, 3], 0.0, True)]
        out += [cuda.region_unpool(z, index, torch.empty_like(x))]
        out += [cuda.region_scatter(z, at, None, torch.empty_like(x))]
        out += [cuda.region_scatter(z, at, index.labels, torch.empty_like(x))]
        resized = cuda.region_resize(x, index, (3, 4))
        out += [resized, cuda.region_spread(resized, index, torch.empty_like(x))]
        results.append([*out, *cuda.region_index(index.labels, regions)[2:]])
    for result in results[1:]:
        assert_all_equal(result, results[0])


# --- Launches ----------------------------------------------------------------------------------


def test_blocks_take_several_turns(host, cuda, monkeypatch):
    """A grid that is too small gives the same."""
    x, index = problem((2, 40, 9, 20, 5), torch.float32, False)
    z = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0))

    def everything():
        maxima, at = cuda.region_max(x, index)
        out = [
            maxima,
            at,
            cuda.region_sum(x, index),
            *cuda.region_spp(x, index, [1, 2], None, True),
        ]
        out += [cuda.region_unpool(z, index, torch.empty_like(x))]
        out += [cuda.region_scatter(z, at, None, torch.empty_like(x))]
        out += [cuda.region_scatter(z, at, index.labels, torch.empty_like(x))]
        resized = cuda.region_resize(x, index, (9, 11))
        out += [resized, cuda.region_spread(resized, index, torch.empty_like(x))]
        _, runs, *rest = cuda.region_index(index.labels, 5)
        return [*out, *rest, *(runs[b, :n] for b, n in enumerate(rest[0]))]

    expected = everything()
    whole = cuda.launch
    monkeypatch.setattr(
        cuda,
        "launch",
        lambda kernel, blocks, *rest, **named: whole(kernel, min(3, blocks), *rest, **named),
    )
    assert_all_equal(everything(), expected)


def test_grids_of_large_problems(cuda, monkeypatch):
    """Asked for and not run: more pixels than an int32 counts, in one batch."""
    asked: list[tuple] = []
    monkeypatch.setattr(
        cuda, "launch", lambda *arguments, shared=0: asked.append((*arguments, shared))
    )
    monkeypatch.setattr(cuda, "on_stream_of", lambda tensor: torch.no_grad())
    monkeypatch.setattr(cuda, "_kernel", lambda name, dtype: name)
    batch, channels, side, regions = 40, 256, 512, 300

    def meta(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    x = meta(batch, channels, side, side, dtype=torch.float32)
    assert x.numel() > 2**31
    shapes = (side, side), (side * side, 3), (), (regions,), (regions, 4)
    index = RegionIndex(*(meta(batch, *shape) for shape in shapes))
    assert cuda.region_sum(x, index).shape == (batch, regions, channels)
    assert cuda.region_max(x, index)[1].shape == (batch, regions, channels)
    cuda.region_spp(x, index, [1, 2, 4], None, True)
    cuda.region_unpool(meta(batch, regions, channels, dtype=torch.float32), index, x)
    z, at = (meta(batch, regions, channels, dtype=d) for d in (torch.float32, torch.int32))
    cuda.region_scatter(z, at, None, x)
    cuda.region_scatter(z, at, index.labels, x)
    cuda.region_spread(cuda.region_resize(x, index, (8, 8)), index, x)
    kinds = [kernel for kernel, *_ in asked]
    assert kinds[:4] == ["sum", "join_sum", "max_boxes", "max_boxes"]
    assert kinds[4:] == ["unpool", "scatter", "place", "resize", "spread"]
    tiles = batch * channels // 32
    assert [blocks for _, blocks, *_ in asked] == [
        tiles * 6, -(-batch * regions * channels // 256), tiles * regions,
        tiles * regions * 21, tiles * side * side // 256, tiles * -(-side * side // 352),
        tiles * side * side // 256, tiles * regions * 64 // 256, tiles * side * side // 128,
    ]  # fmt: skip
    assert all(shared <= 48 * 1024 for *_, shared in asked)


def test_waits_for_nothing(cuda, monkeypatch):
    x, index = problem((1, 5, 9, 11, 4), torch.float32, False)
    z = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0))
    cuda.region_spp(x, index, [1, 2], 0.0, True)

    def waits(*_, **__):
        raise AssertionError("copies between host and device")

    for name in ("item", "__int__", "__bool__", "cpu", "numpy", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, waits)
    monkeypatch.setattr(torch, "tensor", waits)
    cuda.region_index(index.labels, 4)
    cuda.region_sum(x, index)
    _, at = cuda.region_max(x, index)
    cuda.region_spp(x, index, [1, 2], 0.0, True)
    cuda.region_unpool(z, index, torch.empty_like(x))
    for labels in (None, index.labels):
        cuda.region_scatter(z, at, labels, torch.empty_like(x))
    cuda.region_spread(cuda.region_resize(x, index, (2, 2)), index, torch.empty_like(x))


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizer(sanitizer, sanitized):
    """The kernels on real threads: no race, nothing beyond their arguments, and the result of the
    fibers."""
    sanitized("race_region.cpp", sanitizer)


# --- What only a GPU can show ------------------------------------------------------------------


@pytest.mark.gpu
@layouts
@shapes
@pytest.mark.parametrize("dtype", ALL_FLOATS)
def test_gpu_same_as_reference(shape, dtype, channels_last):
    pytest.importorskip("cupy")
    from fastseg.ops.region import _cuda

    x, index = problem(shape, dtype, channels_last)
    here = index.to("cuda")
    made = region_index(here.labels, shape[-1], "cuda")
    for field in fields(RegionIndex):
        if field.name != "runs":
            assert torch.equal(getattr(made, field.name).cpu(), getattr(index, field.name))
    assert_sums(_cuda.region_sum(x.cuda(), made).cpu(), x, index)
    maxima = [part.cpu() for part in _cuda.region_max(x.cuda(), made)]
    assert_maxima(maxima, x, index)
    for fill in (0.0, None):
        bins = [part.cpu() for part in _cuda.region_spp(x.cuda(), made, [1, 2, 4], fill, True)]
        assert_all_equal(bins, _reference.region_spp(widened(x), index, [1, 2, 4], fill, True))
    z, empty = maxima[0].to(dtype), torch.empty_like(x)
    actual = _cuda.region_unpool(z.cuda(), made, torch.empty_like(x.cuda())).cpu()
    assert_all_equal([actual], [_reference.region_unpool(z, index, empty.clone())])
    at = maxima[1].cuda()
    for labels in (None, made.labels):
        actual = _cuda.region_scatter(z.cuda(), at, labels, torch.empty_like(x.cuda())).cpu()
        assert_all_equal([actual], [_reference.region_scatter(z, maxima[1], None, empty)])


@pytest.mark.gpu
@layouts
@shapes
@pytest.mark.parametrize("dtype", FLOATS)
def test_gpu_resamples_as_reference(shape, dtype, channels_last):
    pytest.importorskip("cupy")
    from fastseg.ops.region import _cuda

    x, index = problem(shape, dtype, channels_last)
    here = index.to("cuda")
    resized = _cuda.region_resize(x.cuda(), here, (4, 5))
    close: Any = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(resized.cpu(), _reference.region_resize(x, index, (4, 5)), **close)
    back = _cuda.region_spread(resized, here, torch.empty_like(x.cuda())).cpu()
    exact = _reference.region_spread(resized.cpu(), index, torch.empty_like(x))
    torch.testing.assert_close(back, exact, **close)


@pytest.mark.gpu
@pytest.mark.parametrize("reduce", ["mean", "max", "sum"])
def test_gpu_gradients_and_bits(reduce):
    """Through the public functions: twice the same bits, and the gradients of the CPU."""
    pytest.importorskip("cupy")
    assert backends.resolve("region_sum", torch.device("cuda")) == "cuda"
    x, index = problem((3, 40, 65, 70, 30), torch.float64, False)
    found = []
    for where in ("cuda", "cuda", "cpu"):
        given = x.to(where).requires_grad_()
        pooled = region_pool(given, index.to(where), reduce=reduce)
        bins = region_spp(given, index.to(where))
        loss = (pooled * pooled).sum() + (bins * bins).sum()
        (grad,) = torch.autograd.grad(loss, given)
        found.append((pooled.detach().cpu(), bins.detach().cpu(), grad.cpu()))
    assert_all_equal(found[0], found[1])
    for one, other in zip(found[0], found[2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
def test_gpu_replays_from_a_cuda_graph():
    pytest.importorskip("cupy")
    x, index = problem((2, 40, 33, 30, 9), torch.float32, False)
    x, labels = x.cuda(), index.labels.cuda()

    def pool():
        made = region_index(labels, 9)
        return region_pool(x, made, reduce="max"), region_spp(x, made)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        pool()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = pool()
    x.mul_(-1)
    labels.copy_(labels.flip(1))
    graph.replay()
    assert_all_equal(captured, pool())
