"""soft_ncut: its values, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import soft_ncut
from tests.ops.ncut_problems import DTYPES, dense_ncut, problem, relative_error, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")
SHAPES: list[tuple[int, int, int, int, int, int]] = [  # B, K, C, H, W, radius
    (1, 1, 1, 1, 1, 5),
    (2, 3, 3, 5, 4, 9),  # the disc is larger than the image
    (1, 2, 3, 9, 35, 5),
    (1, 20, 3, 7, 33, 5),
    (2, 5, 1, 70, 17, 3),  # more rows than a tile has
    (1, 9, 4, 1, 66, 2),
    (1, 4, 3, 6, 7, 1),  # each pixel by itself
]


# --- Values ------------------------------------------------------------------------------------


def test_by_hand(backend):
    """Three pixels in a row, the last of another colour; only neighbours count."""
    p = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]], dtype=torch.float64).view(1, 2, 1, 3)
    image = torch.tensor([100, 100, 110], dtype=torch.uint8).view(1, 1, 1, 3)
    loss = soft_ncut(p, image, radius=2, sigma_color=10, sigma_space=2, backend=backend)
    a, b = math.exp(-1 / 4), math.exp(-1 / 4 - 1)  # the pairs (0,1) and (1,2)
    degree = [1 + a, 1 + a + b, 1 + b]
    first = (1 + a / 2 + (a + 0.5) / 2) / (degree[0] + degree[1] / 2)
    second = ((0.5 + b) / 2 + b / 2 + 1) / (degree[1] / 2 + degree[2])
    assert loss.tolist() == pytest.approx([2 - first - second], rel=1e-14)


def test_the_radius_is_exclusive_and_nothing_wraps(backend):
    """Two pixels at a distance of 2 know each other only from radius 3 on."""
    p = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]).view(1, 2, 1, 3)
    image = torch.full((1, 3, 1, 3), 7, dtype=torch.uint8)
    far = math.exp(-4 / 16)
    near = 1 + math.exp(-1 / 16)  # a pixel and the one of no class
    cut = lambda radius: soft_ncut(p, image, radius, backend=backend).item()  # noqa: E731
    assert cut(1) == 0
    assert cut(2) == pytest.approx(2 - 2 / near, rel=1e-6)
    assert cut(3) == pytest.approx(2 - 2 / (near + far), rel=1e-6)
    column = soft_ncut(p.mT.contiguous(), image.mT.contiguous(), 3, backend=backend)
    assert column.item() == pytest.approx(cut(3), rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape, dtype, backend):
    """Value and gradient within twice the error of the dense sums in the same precision."""
    batch, classes, channels, height, width, radius = shape
    p, image = problem(batch, classes, channels, height, width, dtype=dtype)
    wide = torch.promote_types(dtype, torch.float32)
    exact = value_and_gradient(lambda p: dense_ncut(p, image, radius), p.double())
    plain = value_and_gradient(lambda p: dense_ncut(p.to(wide), image, radius), p)
    actual = value_and_gradient(lambda p: soft_ncut(p, image, radius, backend=backend), p)
    assert [part.dtype for part in actual] == [wide, dtype]
    for part, other, expected, scale in zip(
        actual, plain, exact, (classes, exact[1].abs().max()), strict=True
    ):
        # In float64 what is measured against has a rounding error of its own.
        rounding = (16 if wide == torch.float64 else 4) * torch.finfo(part.dtype).eps * scale
        worst = lambda a: (a.double() - expected).abs().max()  # noqa: E731, B023
        assert worst(part) <= 2 * worst(other) + rounding


def test_other_sigmas(backend):
    p, image = problem(1, 3, 3, 8, 9, dtype=torch.float64)
    for sigmas in ((3.0, 1.0), (80.0, 0.5), (1e30, 1e30)):
        actual = soft_ncut(p, image, 4, *sigmas, backend=backend)
        assert torch.allclose(actual, dense_ncut(p, image, 4, *sigmas), rtol=1e-12, atol=1e-12)


def test_sigmas_that_vanish_leave_each_pixel_by_itself(backend):
    p, image = problem(1, 3, 3, 5, 6)
    expected = soft_ncut(p, image, 1, backend=backend)
    for sigmas in ((10.0, 1e-30), (10.0, 5e-324)):
        assert torch.allclose(soft_ncut(p, image, 4, *sigmas, backend=backend), expected)
    different = torch.arange(30, dtype=torch.uint8).view(1, 1, 5, 6)
    actual = soft_ncut(p, different, 4, sigma_color=1e-30, backend=backend)
    assert torch.allclose(actual, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_every_instruction_set(dtype, native):
    p, image = problem(2, 6, 3, 21, 70, dtype=dtype)
    exact = value_and_gradient(lambda p: soft_ncut(p, image, backend="reference"), p.double())
    for isa in native.isas():
        native.set_isa(isa)
        actual = value_and_gradient(lambda p: soft_ncut(p, image, backend="native"), p)
        for part, expected in zip(actual, exact, strict=True):
            assert relative_error(part, expected) <= 20 * torch.finfo(dtype).eps, isa


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 40), st.integers(1, 6))
def test_between_no_cut_and_every_segment(seed, height, width, classes):
    p, image = problem(1, classes, 3, height, width, seed=seed % 1000)
    loss = soft_ncut(p, image, 1 + seed % 6).item()
    assert -1e-5 * classes <= loss <= classes
    flipped = soft_ncut(p.flip(1, 3), image.flip(3), 1 + seed % 6).item()
    assert flipped == pytest.approx(loss, abs=1e-5 * classes)


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 40))
def test_affinities_are_symmetric(seed, height, width):
    """⟨x, Wy⟩ = ⟨Wx, y⟩"""
    x, image = problem(1, 2, 3, height, width, seed=seed, dtype=torch.float64)
    y = x.flip(1)
    filtered = [
        torch.ops.fastseg.ncut_sums(z, image, 0.0, 255.0, 5, 10.0, 4.0, "auto")[2] for z in (x, y)
    ]
    left, right = (filtered[0] * y).sum(), (x * filtered[1]).sum()
    assert abs(left - right) <= 1e-13 * left


# --- Degenerate input --------------------------------------------------------------------------


def test_one_segment_cuts_nothing(backend):
    _, image = problem(2, 1, 3, 11, 40)
    value, gradient = value_and_gradient(
        lambda p: soft_ncut(p, image, backend=backend), torch.ones(2, 1, 11, 40)
    )
    assert (value.abs() <= 1e-6).all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_segment_of_no_pixel_adds_nothing(dtype, backend):
    """All pixels in one class: K − 1, whatever K, and a finite gradient."""
    _, image = problem(2, 4, 3, 9, 20)
    p = torch.zeros(2, 4, 9, 20, dtype=dtype)
    p[:, 2] = 1
    value, gradient = value_and_gradient(lambda p: soft_ncut(p, image, backend=backend), p)
    assert torch.allclose(value.double(), torch.tensor(3.0).double(), atol=1e-6)
    assert gradient.isfinite().all()
    assert (gradient[:, [0, 1, 3]] == 0).all()


def test_zeros(backend):
    _, image = problem(1, 3, 3, 4, 5)
    value, gradient = value_and_gradient(
        lambda p: soft_ncut(p, image, backend=backend), torch.zeros(1, 3, 4, 5)
    )
    assert value.item() == 3
    assert (gradient == 0).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((0, 3, 4, 5), []), ((2, 0, 4, 5), [0, 0]), ((1, 3, 0, 5), [3]), ((1, 3, 4, 0), [3])],
)
def test_nothing(shape, expected, backend):
    p = torch.rand(shape, requires_grad=True)
    image = torch.zeros((shape[0], 3, *shape[2:]), dtype=torch.uint8)
    loss = soft_ncut(p, image, backend=backend)
    assert loss.tolist() == expected
    (gradient,) = torch.autograd.grad(loss.sum(), p)
    assert gradient.shape == shape


def test_what_is_not_finite_stays_in_its_image(backend):
    p, image = problem(3, 2, 3, 10, 40)
    expected = soft_ncut(p, image, backend=backend)
    p[1, 1, 3, 3] = math.nan
    p[1, 0, 9, 39] = math.inf
    actual = soft_ncut(p, image, backend=backend)
    assert actual[1].isnan()
    assert torch.equal(actual[::2], expected[::2])


# --- Bad input ---------------------------------------------------------------------------------

P = torch.zeros(2, 3, 5, 6)
X = torch.zeros(2, 3, 5, 6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"p": np.zeros((2, 3, 5, 6))}, TypeError, "`p` must be a torch.Tensor, got ndarray"),
        ({"image": None}, TypeError, "`image` must be a torch.Tensor, got NoneType"),
        ({"p": P[0]}, ValueError, r"`p` must have 4 dimensions \(B, K, H, W\), got .*\(3, 5, 6\)"),
        ({"image": X[0]}, ValueError, r"`image` must have 4 dimensions \(B, C, H, W\)"),
        ({"p": P.int()}, TypeError, "`p` must be float32 or float64 or .*, got int32"),
        ({"image": X.int()}, TypeError, "`image` must be uint8 or float32 or .*, got int32"),
        ({"image": X[:1]}, ValueError, r"`image` must have shape \(2, any, 5, 6\), got \(1, 3"),
        ({"image": X.mT}, ValueError, r"`image` must have shape \(2, any, 5, 6\), got \(2, 3, 6"),
        ({"image": X[:, :0]}, ValueError, "`image` must have at least one channel, got shape"),
        ({"image": X.to("meta")}, ValueError, r"`image` must be on the device of `p` \(cpu\)"),
        ({"radius": 0}, ValueError, "`radius` must be an integer of at least 1, got 0"),
        ({"radius": 2.5}, TypeError, "`radius` must be an integer, got float"),
        ({"sigma_color": 0}, ValueError, "`sigma_color` must be finite and greater than 0, got 0"),
        ({"sigma_space": math.nan}, ValueError, "`sigma_space` must be finite .* got nan"),
        ({"value_range": (1, 0)}, ValueError, r"`value_range` must be finite and increasing"),
        ({"value_range": 3}, TypeError, "`value_range` must be two numbers, got 3"),
        ({"image": X + 2}, ValueError, r"`image` must lie in the value range \[0, 1\], got 2 … 2"),
        ({"image": X * math.nan}, ValueError, "`image` must lie in the value range .* got nan"),
        ({"backend": "gpu"}, ValueError, "`backend` must be one of 'auto', .* got 'gpu'"),
    ],
)
def test_refusals(change, error, message):
    with pytest.raises(error, match=message):
        soft_ncut(**{"p": P, "image": X, **change})


def test_the_kernel_refuses_buffers_that_do_not_fit(native):
    floats = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    good = {
        "p": floats(2, 3, 4, 5),
        "colours": floats(2, 1, 4, 5),
        "filtered": floats(2, 3, 4, 5),
        "degree": floats(2, 4, 5),
        "totals": np.zeros((2, 2, 3)),
        "radius": 5,
        "color_rate": 0.01,
        "space_rate": 0.1,
        "threads": 1,
    }
    native.ncut_sums(**good)
    for name, value in (
        ("p", floats(2, 3, 0, 5)),
        ("colours", floats(2, 1, 5, 4)),
        ("colours", floats(2, 0, 4, 5)),
        ("filtered", floats(2, 2, 4, 5)),
        ("degree", floats(2, 5, 4)),
        ("totals", np.zeros((2, 2, 4))),
        ("radius", 0),
    ):
        with pytest.raises(ValueError, match=f"`{name}` "):
            native.ncut_sums(**{**good, name: value})
