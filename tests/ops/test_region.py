"""region_pool and region_unpool."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import region_index, region_pool, region_unpool
from tests.ops.region_maps import patches, random

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
REDUCTIONS = ["mean", "max", "sum"]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
CASES = [
    (1, 1, 1, 1, 1),
    (2, 3, 3, 2, 4),  # planes smaller than a vector
    (1, 3, 1, 40, 3),
    (2, 5, 13, 37, 9),
    (1, 70, 20, 33, 300),  # most regions are empty
    (3, 17, 9, 100, 2),  # long runs
]


def pool_by_loop(x, labels, regions, reduce):
    """In float64, region by region, differentiable."""
    x = x.double()
    rows = []
    for image, label in zip(x, labels, strict=True):
        for r in range(regions):
            pixels = image[:, label == r]
            if pixels.shape[1] == 0:
                rows.append(pixels.sum(1))
            elif reduce == "max":
                rows.append(pixels.max(1).values)
            else:
                rows.append(pixels.sum(1) if reduce == "sum" else pixels.mean(1))
    return torch.stack(rows).view(len(x), regions, -1)


def relative_error(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm().clamp(min=1e-300)).item()


# --- By hand -----------------------------------------------------------------------------------


X = torch.tensor([[1.0, 2, 5, 5], [-4, 7, 5, -1]]).view(1, 1, 2, 4)
LABELS = torch.tensor([[[0, 0, 2, 2], [0, -1, 2, 3]]])


@pytest.mark.parametrize(
    ("reduce", "expected", "gradient"),
    [
        ("sum", [-1.0, 0, 15, -1, 0], [[1, 1, 3, 3], [1, 0, 3, 4]]),
        ("mean", [-1 / 3, 0, 5, -1, 0], [[1 / 3, 1 / 3, 1, 1], [1 / 3, 0, 1, 4]]),
        # Of equal maxima the first in raster order has the gradient.
        ("max", [2.0, 0, 5, -1, 0], [[0, 1, 3, 0], [0, 0, 0, 4]]),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pool_by_hand(reduce, expected, gradient, layout, backend):
    x = X.expand(1, 2, 2, 4).clone(memory_format=layout).requires_grad_()
    out = region_pool(x, LABELS, 5, reduce, backend)
    assert torch.allclose(out[0], torch.tensor(expected)[:, None].expand(5, 2), rtol=1e-6)
    (back,) = torch.autograd.grad(out, x, torch.arange(1.0, 6)[None, :, None].expand(1, 5, 2))
    assert torch.allclose(back[0], torch.tensor(gradient).float().expand(2, 2, 4), rtol=1e-6)


def test_unpool_by_hand(backend):
    z = torch.tensor([[[1.0, 10], [2, 20], [3, 30], [4, 40]]])
    out = region_unpool(z, LABELS, backend)
    assert out[0].tolist() == [
        [[1, 1, 3, 3], [1, 0, 3, 4]],
        [[10, 10, 30, 30], [10, 0, 30, 40]],
    ]


# --- Values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize(("batch", "channels", "height", "width", "regions"), CASES)
def test_pool_equals_the_definition(
    batch, channels, height, width, regions, reduce, layout, dtype, backend
):
    """Value and gradient, the value within twice the error of a plain sum and a rounding."""
    x = random(batch, channels, height, width, dtype=dtype).to(memory_format=layout)
    labels = patches(batch, height, width, regions)
    x.requires_grad_()
    exact = pool_by_loop(x, labels, regions, reduce)
    weight = random(*exact.shape, seed=1, dtype=dtype)
    (exact_gradient,) = torch.autograd.grad(exact, x, weight.double())

    out = region_pool(x, labels, regions, reduce, backend)
    (gradient,) = torch.autograd.grad(out, x, weight)
    assert out.dtype == gradient.dtype == dtype
    assert out.is_contiguous()
    assert gradient.is_contiguous(memory_format=layout)
    eps = torch.finfo(dtype).eps
    if reduce == "max":
        assert torch.equal(out.double(), exact)
    else:
        wide = dtype if dtype == torch.float64 else torch.float32
        plain = region_pool(x.to(wide), labels, regions, reduce, "reference").to(dtype)
        assert relative_error(out, exact) <= 2 * (relative_error(plain, exact) + 4 * eps)
    assert relative_error(gradient, exact_gradient.double()) <= 4 * eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "channels", "height", "width", "regions"), CASES)
def test_unpool_equals_the_definition(batch, channels, height, width, regions, dtype, backend):
    z = random(batch, regions, channels, dtype=dtype)
    labels = patches(batch, height, width, regions)
    out = region_unpool(z, labels, backend)
    assert out.dtype == dtype
    assert out.is_contiguous()
    for b, y, x in product(range(batch), range(height), range(width)):
        r = labels[b, y, x]
        assert torch.equal(out[b, :, y, x], z[b, r] if r >= 0 else torch.zeros_like(z[b, 0]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set(dtype, layout, native):
    x = random(2, 21, 19, 50, dtype=dtype).to(memory_format=layout)
    labels = patches(2, 19, 50, 7)
    z = random(2, 7, 21, dtype=dtype)
    for reduce in REDUCTIONS:
        exact = pool_by_loop(x, labels, 7, reduce)
        for isa in native.isas():
            native.set_isa(isa)
            out = region_pool(x, labels, 7, reduce, "native")
            assert relative_error(out, exact) <= 8 * torch.finfo(dtype).eps, isa
    expected = region_unpool(z, labels, "reference")
    for isa in native.isas():
        native.set_isa(isa)
        assert torch.equal(region_unpool(z, labels, "native"), expected), isa


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_bits_for_any_batch_and_threads(layout, backend, threads):
    x = random(3, 33, 40, 41).to(memory_format=layout)  # enough for more than one thread
    labels = patches(3, 40, 41, 50)
    z = random(3, 50, 33)
    for reduce in REDUCTIONS:
        whole = region_pool(x, labels, 50, reduce, backend)
        for i in range(3):
            alone = region_pool(x[i : i + 1], labels[i : i + 1], 50, reduce, backend)
            assert torch.equal(alone, whole[i : i + 1])
        for count in threads:
            torch.set_num_threads(count)
            assert torch.equal(region_pool(x, labels, 50, reduce, backend), whole)
    whole = region_unpool(z, labels, backend)
    for count in threads:
        torch.set_num_threads(count)
        assert torch.equal(region_unpool(z, labels, backend), whole)


def test_any_layout_and_either_kind_of_label(backend):
    x, labels = random(2, 3, 13, 20), patches(2, 13, 20, 6)
    expected = region_pool(x, labels, 6, "max", backend)
    wide = torch.stack([x, -x], -1)[..., 0]
    for other in (x.mT.contiguous().mT, wide, x.to(memory_format=torch.channels_last)):
        assert not other.is_contiguous()
        assert torch.equal(region_pool(other, labels, 6, "max", backend), expected)
    for other in (labels.int(), labels.mT.contiguous().mT, region_index(labels, 6, backend)):
        assert torch.equal(region_pool(x, other, 6, "max", backend), expected)
    z = random(2, 6, 3)
    expected = region_unpool(z, labels, backend)
    assert torch.equal(region_unpool(z.mT.contiguous().mT, labels.int(), backend), expected)
    assert torch.equal(region_unpool(z, region_index(labels, 6, backend), backend), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", [0, 3, 9, 29])
def test_a_maximum_is_nan_where_a_pixel_is(place, layout, backend):
    x = random(1, 20, 2, 15)
    x[:, :, place // 15, place % 15] = math.nan
    x[0, 0] = -math.inf
    x = x.clone(memory_format=layout).requires_grad_()
    labels = torch.zeros(1, 2, 15, dtype=torch.int64)
    out = region_pool(x, labels, 2, "max", backend)
    assert out[0, 0, 1:].isnan().all()
    assert out[0, 0, 0] == -math.inf
    (gradient,) = torch.autograd.grad(out.sum(), x)
    expected = torch.zeros(20, 30)
    expected[1:, place] = 1
    expected[0, 0] = 1  # all are equal: the first
    assert torch.equal(gradient.flatten(2)[0], expected)


def test_half_precision_is_reduced_in_single(backend):
    x = torch.full((1, 1, 300, 300), 2.0, dtype=torch.float16)
    labels = torch.zeros(1, 300, 300, dtype=torch.int64)
    assert region_pool(x, labels, 1, "mean", backend).item() == 2
    assert region_pool(x, labels, 1, "sum", backend).item() == math.inf
    given, weight = x.clone().requires_grad_(), torch.ones(1, 1, 1, dtype=x.dtype).requires_grad_()
    mean = region_pool(given, labels, 1, "mean", backend)
    (gradient,) = torch.autograd.grad(mean, given, weight, create_graph=True)
    assert torch.autograd.grad(gradient, weight, x)[0].item() == 2


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_pool_of_nothing(shape, reduce, backend):
    x = torch.rand(shape, requires_grad=True)
    labels = torch.zeros(shape[0], *shape[2:], dtype=torch.int64)
    out = region_pool(x, labels, 2, reduce, backend)
    assert torch.equal(out, torch.zeros(shape[0], 2, shape[1]))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.shape == shape
    assert region_unpool(out, labels, backend).shape == shape


# --- Properties --------------------------------------------------------------------------------

MAPS = (st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 40), st.integers(1, 9))


@given(*MAPS)
def test_pool_undoes_unpool_and_they_are_adjoint(seed, height, width, regions):
    labels = patches(2, height, width, regions, seed)
    z = random(2, regions, 3, seed=seed, dtype=torch.float64)
    x = random(2, 3, height, width, seed=seed + 1, dtype=torch.float64)
    index = region_index(labels, regions)
    there = (index.counts > 0)[..., None]
    for reduce in ("mean", "max"):
        back = region_pool(region_unpool(z, index), index, reduce=reduce)
        assert torch.allclose(back, torch.where(there, z, 0), rtol=1e-14)
    left = (region_pool(x, index, reduce="sum") * z).sum()
    assert torch.allclose(left, (x * region_unpool(z, index)).sum(), rtol=1e-12, atol=1e-12)


@given(*MAPS)
def test_pool_follows_a_relabelling_and_is_linear(seed, height, width, regions):
    labels = patches(1, height, width, regions, seed)
    x, y = random(2, 1, 2, height, width, seed=seed, dtype=torch.float64)
    to = torch.randperm(regions, generator=torch.Generator().manual_seed(seed))
    moved = torch.where(labels < 0, -1, to[labels])
    for reduce in REDUCTIONS:
        out = region_pool(x, labels, regions, reduce)
        assert torch.equal(region_pool(x, moved, regions, reduce)[:, to], out)
    for reduce in ("mean", "sum"):
        parts = 2 * region_pool(x, labels, regions, reduce) - region_pool(
            y, labels, regions, reduce
        )
        both = region_pool(2 * x - y, labels, regions, reduce)
        assert torch.allclose(both, parts, rtol=1e-12, atol=1e-12)
    constant = torch.full_like(x, 0.625)
    there = (region_index(labels, regions).counts > 0)[..., None].double().expand(-1, -1, 2)
    for reduce in ("mean", "max"):
        assert torch.equal(region_pool(constant, labels, regions, reduce), 0.625 * there)
