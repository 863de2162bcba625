"""region_spp."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fastseg import region_index, region_pool, region_spp
from tests.ops.region_maps import blobs, boxes_of, random

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
CASES = [
    ((1, 1, 1, 1), 1),
    ((2, 3, 3, 2), 4),  # boxes smaller than their bins
    ((1, 5, 13, 37), 9),
    ((2, 9, 20, 19), 40),
]


def spp_by_loop(x, labels, regions, levels, fill):
    """By PyTorch's adaptive pooling of each masked box, differentiable."""
    out = x.new_zeros((len(x), regions, sum(n * n for n in levels) * x.shape[1]))
    for b, r, box, own in boxes_of(x, labels, regions):
        masked = torch.where(own, box, -math.inf if fill is None else fill)
        parts = [F.adaptive_max_pool2d(masked, n).flatten(1).T.flatten() for n in levels]
        out[b, r] = torch.cat(parts)
    return out.masked_fill(out == -math.inf, 0)


X = torch.tensor([[1.0, 2, 3, 4], [5, -6, 7, 8], [-9, 10, 11, -3]]).view(1, 1, 3, 4)
LABELS = torch.tensor([[[0, 0, 1, 1], [0, 3, 3, 1], [3, 3, 3, -1]]])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_spp_by_hand(layout, backend):
    x = X.expand(1, 2, 3, 4).clone(memory_format=layout).requires_grad_()
    out = region_spp(x, LABELS, 4, (1, 2), None, backend).view(1, 4, 5, 2)
    # Region 3's box is rows 1–2 and columns 0–2; its middle column is in both halves.
    expected = [[5.0, 1, 2, 5, 0], [8, 3, 4, 0, 8], [0, 0, 0, 0, 0], [11, -6, 7, 10, 11]]
    for channel in (0, 1):
        assert out[0, :, :, channel].tolist() == expected
    (gradient,) = torch.autograd.grad(out.sum(), x)
    # A level and a bin each; pixel 10 wins in one bin, 11 in one and at level 1.
    assert gradient[0, 1].tolist() == [[1, 1, 1, 1], [2, 1, 1, 2], [0, 1, 2, 0]]
    filled = region_spp(x, LABELS, 4, (1, 2), 2.5, backend).view(1, 4, 5, 2)
    assert filled[0, :, :, 0].tolist() == [
        [5.0, 1, 2, 5, 2.5],
        [8, 3, 4, 2.5, 8],
        [0, 0, 0, 0, 0],
        [11, 2.5, 7, 10, 11],
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fill", [None, 0.0, -0.3])
@pytest.mark.parametrize("levels", [(1, 2, 4), (3,), (2, 3, 6, 1)])
@pytest.mark.parametrize(("shape", "regions"), CASES)
def test_spp_equals_adaptive_pooling(shape, regions, levels, fill, layout, dtype, backend):
    x = random(*shape, dtype=dtype).to(memory_format=layout).requires_grad_()
    labels = blobs(shape[0], shape[2], shape[3], regions)
    fill = fill if fill is None else torch.tensor(fill, dtype=dtype).item()
    expected = spp_by_loop(x, labels, regions, levels, fill)
    out = region_spp(x, labels, regions, levels, fill, backend)
    assert out.dtype == dtype
    assert torch.equal(out, expected)
    weight = random(*out.shape, seed=1, dtype=dtype)
    (gradient,) = torch.autograd.grad(out, x, weight)
    (exact,) = torch.autograd.grad(expected.double(), x, weight.double())
    assert gradient.is_contiguous(memory_format=layout)
    assert (gradient - exact).norm() <= 8 * torch.finfo(dtype).eps * exact.norm()


def test_spp_gradient_goes_to_the_region_s_first_of_equals(backend):
    x = torch.zeros(1, 1, 2, 3, requires_grad=True)
    labels = torch.tensor([[[1, 0, 0], [0, 0, 1]]])
    (gradient,) = torch.autograd.grad(region_spp(x, labels, 1 + 1, (1,), 0.0, backend).sum(), x)
    assert gradient.flatten().tolist() == [1, 1, 0, 0, 0, 0]
    low = torch.full((1, 1, 2, 3), -math.inf, requires_grad=True)
    out = region_spp(low, labels, 2, (1,), None, backend)
    assert out.flatten().tolist() == [-math.inf] * 2
    (gradient,) = torch.autograd.grad(out, low, torch.ones_like(out))
    assert gradient.flatten().tolist() == [1, 1, 0, 0, 0, 0]
    nan = torch.full((1, 1, 2, 3), math.nan)
    assert region_spp(nan, labels, 2, (1, 2), 0.0, backend)[..., 0].isnan().all()


@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 20), st.integers(1, 9))
def test_one_bin_is_region_pool(seed, height, width, regions):
    x = random(2, 3, height, width, seed=seed)
    index = region_index(blobs(2, height, width, regions, seed), regions)
    pyramid = region_spp(x, index, levels=(4, 1), fill=None).view(2, regions, 17, 3)
    pooled = region_pool(x, index, reduce="max")
    assert torch.equal(pyramid[:, :, 16], pooled)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_of_nothing(shape, backend):
    x = torch.rand(shape, requires_grad=True)
    labels = torch.zeros(shape[0], *shape[2:], dtype=torch.int64)
    out = region_spp(x, labels, 2, backend=backend)
    assert torch.equal(out, torch.zeros(shape[0], 2, 21 * shape[1]))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.shape == shape


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_bits_everywhere(layout, native, threads):
    x = random(3, 17, 40, 41).to(memory_format=layout)
    labels = blobs(3, 40, 41, 30)
    expected = region_spp(x, labels, 30, backend="reference")
    for isa in native.isas():
        native.set_isa(isa)
        for count in threads:
            torch.set_num_threads(count)
            assert torch.equal(region_spp(x, labels, 30, backend="native"), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_any_order(layout, backend):
    x = random(1, 2, 5, 6, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    index = region_index(blobs(1, 5, 6, 3), 3)
    torch.autograd.gradcheck(lambda x: region_spp(x, index, backend=backend), x)
    square = lambda x: region_spp(x.square(), index, backend=backend)  # noqa: E731
    torch.autograd.gradgradcheck(square, x)


@pytest.mark.parametrize("wants_gradient", [False, True])
def test_it_is_a_sound_operator(wants_gradient, backend):
    index = region_index(blobs(1, 7, 5, 4), 4, backend).tensors
    for view in (random(1, 2, 7, 5), random(1, 2, 5, 7).mT):
        view.requires_grad_(wants_gradient)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
            operator = torch.ops.fastseg.region_spp.default
            for places in {True, wants_gradient}:
                torch.library.opcheck(operator, (view, *index, [1, 2], 0.0, places, backend))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_it_compiles_whole(backend):
    labels = blobs(2, 6, 7, 5)

    def loss(x):
        return region_spp(x, labels, 5, backend=backend).square().mean()

    eager, compiled = (random(2, 3, 6, 7).requires_grad_() for _ in range(2))
    loss(eager).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled).backward()
    assert torch.equal(compiled.grad, eager.grad)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": 1}, TypeError, "`x` must be a torch.Tensor, got int"),
        ({"x": X.int()}, TypeError, "`x` must be float32 or float64 or .*, got int32"),
        ({"labels": LABELS[0]}, ValueError, r"`labels` must have shape \(1, 3, 4\), got \(3, 4\)"),
        ({"num_regions": 3}, ValueError, r"less than `num_regions` \(3\), got 3 at index .0, 1, 1"),
        ({"levels": 2}, TypeError, "`levels` must be a sequence of integers, got int"),
        ({"levels": ()}, ValueError, "`levels` must name at least one level, got none"),
        ({"levels": (1, 0)}, ValueError, "`levels` must be an integer of at least 1, got 0"),
        ({"fill": math.nan}, ValueError, "`fill` must be finite .* got nan"),
        ({"fill": "0"}, TypeError, "`fill` must be a number, got str"),
        ({"backend": "gpu"}, ValueError, "`backend` must be one of 'auto', .* got 'gpu'"),
    ],
)
def test_what_it_refuses(change, error, message):
    with pytest.raises(error, match=message):
        region_spp(**{"x": X, "labels": LABELS, "num_regions": 4, **change})
