"""gaussian_filter and gaussian_inpaint."""

import math
import shutil
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import gaussian_filter, gaussian_inpaint

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

Kernel = tuple[float, int, int]
AUTHORS: Kernel = (5.0, 11, 2)
SMALL: Kernel = (0.8, 3, 2)
HALVING = math.sqrt(0.5 / math.log(2))  # with 3 taps the weights are 1/4, 1/2, 1/4
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
CASES: list[tuple[tuple[int, ...], Kernel]] = [
    ((1, 1, 1, 1), AUTHORS),
    ((2, 3, 9, 35), AUTHORS),  # below the reach along y, above it along x
    ((1, 2, 37, 21), AUTHORS),
    ((1, 1, 3, 130), AUTHORS),
    ((1, 1, 131, 7), (5.0, 21, 1)),
    ((1, 1, 33, 17), (2.0, 1, 1)),  # leaves x as it is
    ((2, 1, 20, 34), (0.7, 3, 5)),
    ((1, 1, 5, 6), (9.0, 41, 2)),  # far below the reach
]


def random(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def filter_matrix(size, sigma, taps, passes):
    """S = Aᵖ written out from the definition: float64 (size, size)."""
    offset = np.arange(size)[:, None] - np.arange(size)
    reach = np.arange(taps) - taps // 2
    weight = np.exp(-(offset**2) / (2 * sigma**2)) / np.exp(-(reach**2) / (2 * sigma**2)).sum()
    weight[abs(offset) > taps // 2] = 0
    return torch.from_numpy(np.linalg.matrix_power(weight, passes))


def dense_filter(x, kernel, dtype):
    """S_y x S_xᵀ by matrix products in `dtype`."""
    down, across = (filter_matrix(n, *kernel).to(dtype) for n in x.shape[2:])
    return down @ x.to(dtype) @ across.T


def dense_inpaint(x, mask, kernel):
    """ψ in float64."""
    x, mask = x.double(), mask.double().expand(len(x), -1, -1, -1)
    blurred = dense_filter(torch.cat([x * mask, mask], 1), kernel, torch.float64)
    blurred += 1e-8 * torch.cat([x * mask, mask], 1).sum((2, 3), keepdim=True)
    return blurred[:, :-1] / blurred[:, -1:]


def rounding(dtype):
    """In float64 the result measured against has a rounding error of its own."""
    return torch.finfo(dtype).eps * (4 if dtype == torch.float64 else 1)


def relative_error(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm()).item()


# --- gaussian_filter ---------------------------------------------------------------------------


def test_filter_by_hand(backend):
    x = torch.zeros(1, 2, 3, 4)
    x[0, 0, 1, 1] = 16
    x[0, 1, 0, 3] = 16
    once = gaussian_filter(x, HALVING, taps=3, passes=1, backend=backend)
    middle = [[1, 2, 1, 0], [2, 4, 2, 0], [1, 2, 1, 0]]
    corner = [[0, 0, 2, 4], [0, 0, 1, 2], [0, 0, 0, 0]]
    assert torch.allclose(once[0], torch.tensor([middle, corner]).float(), rtol=1e-6, atol=0)
    line = torch.tensor([0.0, 0, 16, 0]).view(1, 1, 1, 4)
    twice = gaussian_filter(line, HALVING, taps=3, passes=2, backend=backend)
    # Along y two passes leave 1/4; along x the weights become 1, 4, 6, 4, 1 sixteenths.
    assert torch.allclose(twice.flatten(), torch.tensor([1.0, 4, 6, 4]) / 4, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "kernel"), CASES)
def test_filter_equals_the_definition(shape, kernel: Kernel, dtype, backend):
    """Within twice the error of matrix products in the same precision, and a rounding."""
    x = random(*shape).sub(0.5).to(dtype)
    expected = dense_filter(x, kernel, torch.float64)
    wide = dtype if dtype == torch.float64 else torch.float32
    plain = relative_error(dense_filter(x, kernel, wide).to(dtype), expected)
    actual = gaussian_filter(x, *kernel, backend=backend)
    assert actual.dtype == dtype
    assert actual.is_contiguous()
    assert relative_error(actual, expected) <= 2 * (plain + rounding(dtype))


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_filter_of_nothing(shape, backend):
    x = torch.rand(shape, requires_grad=True)
    out = gaussian_filter(x, backend=backend)
    assert out.shape == shape
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.shape == shape


def test_filter_takes_any_layout(backend):
    x = random(2, 3, 13, 20)
    expected = gaussian_filter(x, backend=backend)
    wide = torch.stack([x, -x], -1)[..., 0]
    for other in (x.to(memory_format=torch.channels_last), x.mT.contiguous().mT, wide):
        assert not other.is_contiguous()
        actual = gaussian_filter(other, backend=backend)
        assert actual.is_contiguous()
        assert torch.equal(actual, expected)
    expanded = x[:1, :1].expand(2, 3, -1, -1)
    assert torch.equal(gaussian_filter(expanded, backend=backend), expected[:1, :1].expand_as(x))
    assert torch.equal(gaussian_filter(x.requires_grad_(), backend=backend), expected)


def test_filter_has_gradients_of_any_order(backend):
    x = random(1, 2, 4, 5, dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(lambda x: gaussian_filter(x, *SMALL, backend), x)
    square = lambda x: gaussian_filter(x.square(), *SMALL, backend)  # noqa: E731
    torch.autograd.gradgradcheck(square, x, fast_mode=True)


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 30), st.integers(0, 8))
def test_filter_is_its_own_adjoint(seed, height, width, half):
    rng = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 1, 1, height, width, generator=rng, dtype=torch.float64)
    kernel = (3.0, 2 * half + 1, 2)
    left, right = (gaussian_filter(x, *kernel) * y).sum(), (x * gaussian_filter(y, *kernel)).sum()
    assert abs(left - right) <= 1e-13 * x.norm() * y.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_filter_on_every_instruction_set(dtype, native):
    x = random(2, 3, 37, 70, dtype=dtype)
    expected = dense_filter(x, AUTHORS, torch.float64)
    plain = relative_error(dense_filter(x, AUTHORS, dtype), expected)
    for isa in native.isas():
        native.set_isa(isa)
        actual = gaussian_filter(x, backend="native")
        assert relative_error(actual, expected) <= 2 * (plain + rounding(dtype)), isa


def test_filter_has_the_same_bits_for_any_batch_and_threads(backend, threads):
    x = random(3, 2, 19, 33)
    whole = gaussian_filter(x, backend=backend)
    for i in range(3):
        assert torch.equal(gaussian_filter(x[i : i + 1], backend=backend), whole[i : i + 1])
    for count in threads:
        torch.set_num_threads(count)
        assert torch.equal(gaussian_filter(x, backend=backend), whole)


def test_filter_is_a_sound_operator(backend):
    x = random(1, 2, 7, 5)
    for view in (x, x.mT, x.to(memory_format=torch.channels_last)):
        for wants_gradient in (False, True):
            inputs = (view.detach().requires_grad_(wants_gradient), *AUTHORS, backend)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
                torch.library.opcheck(torch.ops.fastseg.gaussian_filter.default, inputs)


def test_autocast_changes_nothing(backend):
    x, mask = random(1, 2, 12, 13), random(1, 1, 12, 13, seed=1)
    filtered, painted = gaussian_filter(x, backend=backend), gaussian_inpaint(x, mask)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gaussian_filter(x, backend=backend), filtered)
        assert torch.equal(gaussian_inpaint(x, mask), painted)


# --- gaussian_inpaint --------------------------------------------------------------------------


def test_inpaint_by_hand(backend):
    x = torch.tensor([8.0, 100, 4], dtype=torch.float64).view(1, 1, 1, 3)
    mask = torch.tensor([True, False, True]).view(1, 1, 1, 3)
    out = gaussian_inpaint(x, mask, HALVING, taps=3, passes=1, backend=backend)
    # Along y only the middle weight, 1/2, meets the image; ε adds the known pixels' sums 12 and 2.
    expected = [(n / 2 + 12e-8) / (d / 2 + 2e-8) for n, d in ((4, 0.5), (3, 0.5), (2, 0.5))]
    assert out.flatten().tolist() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [torch.bool, torch.float])
@pytest.mark.parametrize("kernel", [AUTHORS, (5.0, 21, 1)])
def test_inpaint_equals_the_definition(kernel: Kernel, kind, dtype, backend):
    x, mask = random(2, 3, 17, 30, dtype=dtype), random(2, 1, 17, 30, seed=1)
    mask = mask > 0.7 if kind == torch.bool else mask.to(dtype)
    actual = gaussian_inpaint(x, mask, *kernel, backend)
    assert actual.dtype == dtype
    expected = dense_inpaint(x, mask, kernel)
    assert relative_error(actual, expected) <= max(1e-13, 4 * torch.finfo(dtype).eps)


def test_inpaint_of_known_pixels_is_their_weighted_mean(backend):
    x = random(2, 3, 20, 41, dtype=torch.float64)
    ones = torch.ones(2, 1, 20, 41, dtype=torch.float64)
    mean = dense_filter(x, AUTHORS, torch.float64) / dense_filter(ones, AUTHORS, torch.float64)
    painted = gaussian_inpaint(x, ones, backend=backend)
    # ε draws each pixel towards the image's mean, by its share of the weight.
    assert torch.allclose(painted, mean, rtol=0, atol=1e-4)
    assert torch.equal(painted, gaussian_inpaint(x, ones[:1].bool(), backend=backend))


@pytest.mark.parametrize("dtype", DTYPES)
def test_inpaint_keeps_a_constant(dtype, backend):
    x = torch.full((1, 2, 30, 31), 0.375, dtype=dtype)
    out = gaussian_inpaint(x, random(1, 1, 30, 31) > 0.98, backend=backend)
    assert torch.allclose(out, x, rtol=2 * rounding(dtype), atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_of_reach_takes_the_mean_colour(dtype, backend):
    x = random(1, 3, 30, 64, dtype=dtype)
    mask = torch.zeros(1, 1, 30, 64, dtype=torch.bool)
    mask[..., :2, :2] = True  # so few that 1e-8 of them is 0 in float16
    out = gaussian_inpaint(x, mask, backend=backend)[..., 40:].double()
    mean = x[..., :2, :2].double().mean((2, 3), keepdim=True).expand(out.shape)
    assert torch.allclose(out, mean, rtol=2 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inpaint_where_nothing_is_known(dtype, backend):
    """Zero, with zero gradient; the other image of the batch is as alone."""
    x = random(2, 2, 9, 12, dtype=dtype).requires_grad_()
    mask = torch.zeros(2, 1, 9, 12, dtype=dtype)
    mask[1] = random(1, 9, 12, seed=1)
    mask.requires_grad_()
    out = gaussian_inpaint(x, mask, backend=backend)
    of_x, of_mask = torch.autograd.grad(out.sum(), (x, mask))
    for part in (out, of_x, of_mask):
        assert (part[0] == 0).all()
        assert part[1].isfinite().all()
        assert (part[1] != 0).any()
    assert torch.equal(out[1:], gaussian_inpaint(x[1:], mask[1:], backend=backend))


def test_one_mask_serves_every_image(backend):
    x, mask = random(3, 2, 11, 14), random(1, 1, 11, 14, seed=1)
    out = gaussian_inpaint(x, mask, backend=backend)
    assert torch.equal(out, gaussian_inpaint(x, mask.repeat(3, 1, 1, 1), backend=backend))
    assert gaussian_inpaint(x[:0], mask, backend=backend).shape == (0, 2, 11, 14)
    assert gaussian_inpaint(x[:, :0], mask, backend=backend).shape == (3, 0, 11, 14)


def test_inpaint_has_gradients_of_any_order(backend):
    x = random(2, 2, 4, 3, dtype=torch.float64).requires_grad_()
    mask = random(1, 1, 4, 3, seed=1, dtype=torch.float64).add(0.1).requires_grad_()

    def inpaint(x, mask):
        return gaussian_inpaint(x, mask, *SMALL, backend)

    torch.autograd.gradcheck(inpaint, (x, mask))
    torch.autograd.gradgradcheck(inpaint, (x, mask), fast_mode=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_inpaint_compiles_whole(backend):
    compiler = "inductor" if backend == "native" and shutil.which("g++") else "aot_eager"

    def loss(x, mask):
        return gaussian_inpaint(x, mask, backend=backend).square().mean()

    mask = random(1, 1, 11, 13, seed=1)
    eager, compiled = (random(2, 2, 11, 13).requires_grad_() for _ in range(2))
    loss(eager, mask).backward()
    torch.compile(loss, fullgraph=True, backend=compiler)(compiled, mask).backward()
    assert torch.allclose(compiled.grad, eager.grad, rtol=1e-5, atol=1e-8)


# --- Bad input ---------------------------------------------------------------------------------

X = torch.zeros(1, 2, 5, 6)
M = torch.zeros(1, 1, 5, 6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((1, 2, 5, 6))}, TypeError, "`x` must be a torch.Tensor, got ndarray"),
        ({"x": X[0]}, ValueError, r"`x` must have 4 dimensions \(B, C, H, W\), got .*\(2, 5, 6\)"),
        ({"x": X.int()}, TypeError, "`x` must be float32 or float64 or .*, got int32"),
        ({"sigma": 0}, ValueError, "`sigma` must be finite and greater than 0, got 0"),
        ({"sigma": math.nan}, ValueError, "`sigma` must be finite .* got nan"),
        ({"sigma": True}, TypeError, "`sigma` must be a number, got bool"),
        ({"taps": 10}, ValueError, "`taps` must be an odd integer of at least 1, got 10"),
        ({"taps": -3}, ValueError, "`taps` must be an odd integer of at least 1, got -3"),
        ({"taps": 3.0}, TypeError, "`taps` must be an odd integer, got float"),
        ({"passes": 0}, ValueError, "`passes` must be an integer of at least 1, got 0"),
        ({"passes": True}, TypeError, "`passes` must be an integer, got bool"),
        ({"backend": "gpu"}, ValueError, "`backend` must be one of 'auto', .* got 'gpu'"),
    ],
)
def test_what_both_refuse(change, error, message):
    with pytest.raises(error, match=message):
        gaussian_filter(**{"x": X, **change})
    with pytest.raises(error, match=message):
        gaussian_inpaint(**{"x": X, "mask": M, **change})


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (None, TypeError, "`mask` must be a torch.Tensor, got NoneType"),
        (M.int(), TypeError, "`mask` must be bool or float32, got int32"),
        (M.double(), TypeError, "`mask` must be bool or float32, got float64"),
        (M[0], ValueError, r"`mask` must have shape \(1, 1, 5, 6\), got \(1, 5, 6\)"),
        (
            M.expand(3, -1, -1, -1),
            ValueError,
            r"have shape \(1, 1, 5, 6\), got \(3, 1, 5, 6\)",
        ),
        (
            M.expand(-1, 2, -1, -1),
            ValueError,
            r"have shape \(1, 1, 5, 6\), got \(1, 2, 5, 6\)",
        ),
        (M.mT, ValueError, r"`mask` must have shape \(1, 1, 5, 6\), got \(1, 1, 6, 5\)"),
        (M.to("meta"), ValueError, r"`mask` must be on the device of `x` \(cpu\), got meta"),
    ],
)
def test_masks_that_inpaint_refuses(mask, error, message):
    with pytest.raises(error, match=message):
        gaussian_inpaint(X, mask)
