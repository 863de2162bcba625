"""region_resize."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fastseg import region_index, region_resize
from tests.ops.region_maps import blobs, boxes_of, random

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
CASES = [
    ((1, 1, 1, 1), 1),
    ((2, 3, 3, 2), 4),  # narrower than a vector, boxes smaller than their results
    ((1, 5, 13, 37), 9),
    ((2, 21, 33, 70), 6),  # boxes wider than a vector
]


def resize_by_loop(x, labels, regions, size):
    """Box by box in x's dtype, differentiable."""
    out = x.new_zeros((len(x), regions, x.shape[1], *size))
    for b, r, box, own in boxes_of(x, labels, regions):
        mask = F.interpolate(own[None, None].to(x.dtype), size, mode="nearest")
        out[b, r] = (F.interpolate(box[None], size, mode="bilinear") * mask)[0]
    return out


X = torch.tensor([[1.0, 2, 3, 4], [5, -6, 7, 8], [-9, 10, 11, -3]]).view(1, 1, 3, 4)
LABELS = torch.tensor([[[0, 0, 1, 1], [0, 3, 3, 1], [3, 3, 3, -1]]])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_by_hand(layout, backend):
    x = X.expand(1, 2, 3, 4).clone(memory_format=layout).requires_grad_()
    out = region_resize(x, LABELS, 4, (1, 2), backend)
    # One row halfway between the two of each box, masked by the upper. Of region 3's three columns
    # the results lie at ¼, which is not its own, and 1¾.
    expected = [[3.0, -2], [5, 6], [0, 0], [0, 0.25 * 2 + 0.75 * 9]]
    for channel in (0, 1):
        assert out[0, :, channel, 0].tolist() == expected
    (gradient,) = torch.autograd.grad(out.sum(), x)
    rest = [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5 + 0.125, 0.5 + 0.375, 0.5], [0, 0.125, 0.375, 0]]
    assert gradient[0, 1].tolist() == rest


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(8, 8), (1, 3), (5, 20)])
@pytest.mark.parametrize(("shape", "regions"), CASES)
def test_it_equals_interpolation(shape, regions, size, layout, dtype, backend):
    """Within twice the error of PyTorch's in single precision and a rounding."""
    x = random(*shape, dtype=dtype).to(memory_format=layout).requires_grad_()
    labels = blobs(shape[0], shape[2], shape[3], regions)
    out = region_resize(x, labels, regions, size, backend)
    weight = random(*out.shape, seed=1, dtype=dtype)
    (gradient,) = torch.autograd.grad(out, x, weight)
    assert out.dtype == gradient.dtype == dtype
    assert gradient.is_contiguous(memory_format=layout)

    exact = resize_by_loop(x.double(), labels, regions, size)
    (exact_gradient,) = torch.autograd.grad(exact, x, weight.double())
    hidden = resize_by_loop(torch.ones(shape), labels, regions, size) == 0
    assert not out[hidden].any()
    wide = x.detach().to(torch.float64 if dtype == torch.float64 else torch.float32)
    wide.requires_grad_()
    plain = resize_by_loop(wide, labels, regions, size)
    (plain_gradient,) = torch.autograd.grad(plain, wide, weight.to(wide.dtype))
    # Where a result lies is rounded too, at the size of the box.
    band = 2 * torch.finfo(dtype).eps + 1e-14
    for ours, theirs, right in (
        (out, plain, exact),
        (gradient, plain_gradient, exact_gradient),
    ):
        assert (ours - right).norm() <= 2 * ((theirs - right).norm() + band * right.norm())


def test_a_box_of_that_size_is_kept(backend):
    x = random(1, 3, 4, 6)
    labels = torch.zeros(1, 4, 6, dtype=torch.int64)
    assert torch.equal(region_resize(x, labels, 1, (4, 6), backend)[:, 0], x)


def test_what_the_mask_hides_may_be_anything(backend):
    x = torch.ones(1, 1, 2, 4)
    x[..., 3] = math.nan
    labels = torch.tensor([[[0, 0, 0, 1], [0, 0, 0, 0]]])
    out = region_resize(x, labels, 2, (2, 4), backend)
    assert out[0, 0, 0, 0].tolist() == [1, 1, 1, 0]
    assert out[0, 0, 0, 1, 3].isnan()


@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 40), st.integers(1, 9))
def test_it_is_linear_and_has_an_adjoint(seed, height, width, regions):
    x, y = random(2, 2, 3, height, width, seed=seed, dtype=torch.float64)
    index = region_index(blobs(2, height, width, regions, seed), regions)
    both = region_resize(2 * x - y, index)
    parts = 2 * region_resize(x, index) - region_resize(y, index)
    assert torch.allclose(both, parts, rtol=1e-12, atol=1e-12)
    z = random(*both.shape, seed=seed + 1, dtype=torch.float64)
    back = torch.ops.fastseg.region_spread(z, *index.tensors, False, "auto")
    left, right = (region_resize(x, index) * z).sum(), (x * back).sum()
    assert torch.allclose(left, right, rtol=1e-11, atol=1e-11)


@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 40), st.integers(1, 9))
def test_of_a_constant_the_mask_is_left(seed, height, width, regions):
    labels = blobs(1, height, width, regions, seed)
    out = region_resize(torch.ones(1, 1, height, width), labels, regions, (3, 5))
    assert torch.allclose(out, out.round(), atol=1e-6)
    here = region_index(labels, regions).counts[0] > 0
    assert not out[0, ~here].any()


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_of_nothing(shape, backend):
    x = torch.rand(shape, requires_grad=True)
    labels = torch.zeros(shape[0], *shape[2:], dtype=torch.int64)
    out = region_resize(x, labels, 2, (3, 2), backend)
    assert torch.equal(out, torch.zeros(shape[0], 2, shape[1], 3, 2))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, torch.zeros(shape))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_instruction_set_and_the_same_bits_for_any_threads(layout, native, threads):
    x = random(3, 17, 40, 41).to(memory_format=layout).requires_grad_()
    labels = blobs(3, 40, 41, 30)
    weight = random(3, 30, 17, 8, 8)
    exact = region_resize(x.double(), labels, 30, backend="reference")
    (exact_gradient,) = torch.autograd.grad(exact, x, weight.double())
    for isa in native.isas():
        native.set_isa(isa)
        whole = None
        for count in threads:
            torch.set_num_threads(count)
            out = region_resize(x, labels, 30, backend="native")
            (gradient,) = torch.autograd.grad(out, x, weight)
            if whole is None:
                whole = out, gradient
                assert (out - exact).norm() <= 1e-6 * exact.norm()
                assert (gradient - exact_gradient).norm() <= 1e-6 * exact_gradient.norm()
            assert torch.equal(out, whole[0])
            assert torch.equal(gradient, whole[1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_any_order(layout, backend):
    x = random(1, 2, 5, 6, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    index = region_index(blobs(1, 5, 6, 3), 3)
    torch.autograd.gradcheck(lambda x: region_resize(x, index, 3, (2, 3), backend), x)
    square = lambda x: region_resize(x.square(), index, 3, (2, 3), backend)  # noqa: E731
    torch.autograd.gradgradcheck(square, x)


@pytest.mark.parametrize("wants_gradient", [False, True])
def test_they_are_sound_operators(wants_gradient, backend):
    index = region_index(blobs(1, 7, 5, 4), 4, backend).tensors
    ops = torch.ops.fastseg
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
        for view in (random(1, 2, 7, 5), random(1, 2, 5, 7).mT):
            view.requires_grad_(wants_gradient)
            torch.library.opcheck(ops.region_resize.default, (view, *index, [3, 2], backend))
        for view in (random(1, 4, 2, 3, 2), random(1, 4, 2, 2, 3).mT):
            view.requires_grad_(wants_gradient)
            for last in (False, True):
                torch.library.opcheck(ops.region_spread.default, (view, *index, last, backend))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_it_compiles_whole(backend):
    labels = blobs(2, 6, 7, 5)

    def loss(x):
        return region_resize(x, labels, 5, backend=backend).square().mean()

    eager, compiled = (random(2, 3, 6, 7).requires_grad_() for _ in range(2))
    loss(eager).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled).backward()
    assert torch.allclose(compiled.grad, eager.grad, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": 1}, TypeError, "`x` must be a torch.Tensor, got int"),
        ({"labels": LABELS[0]}, ValueError, r"`labels` must have shape \(1, 3, 4\), got \(3, 4\)"),
        ({"num_regions": 3}, ValueError, r"less than `num_regions` \(3\), got 3 at index .0, 1, 1"),
        ({"size": 8}, TypeError, "`size` must be a sequence of 2 integers, got int"),
        ({"size": (8,)}, ValueError, "`size` must be a sequence of 2 integers, got 1 of them"),
        ({"size": (8, 0)}, ValueError, "`size` must be an integer of at least 1, got 0"),
        ({"size": (8, 2.5)}, TypeError, "`size` must be an integer, got float"),
        ({"backend": "gpu"}, ValueError, "`backend` must be one of 'auto', .* got 'gpu'"),
    ],
)
def test_what_it_refuses(change, error, message):
    with pytest.raises(error, match=message):
        region_resize(**{"x": X, "labels": LABELS, "num_regions": 4, **change})
