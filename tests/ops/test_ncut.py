"""soft_ncut."""

import math
import shutil
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import soft_ncut

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SHAPES: list[tuple[int, int, int, int, int, int]] = [  # B, K, C, H, W, radius
    (1, 1, 1, 1, 1, 5),
    (2, 3, 3, 5, 4, 9),  # the disc is larger than the image
    (1, 2, 3, 9, 35, 5),
    (1, 20, 3, 7, 33, 5),
    (2, 5, 1, 70, 17, 3),  # more rows than a tile has
    (1, 9, 4, 1, 66, 2),
    (1, 4, 3, 6, 7, 1),  # each pixel by itself
]


def problem(batch, classes, channels, height, width, seed=0, dtype=torch.float32):
    """Probabilities, and an image of a few colours with noise, uint8."""
    rng = torch.Generator().manual_seed(seed)
    p = torch.randn((batch, classes, height, width), generator=rng).softmax(1).to(dtype)
    flat = torch.randint(0, 3, (batch, channels, height, width), generator=rng) * 60
    return p, (flat + torch.randint(0, 20, flat.shape, generator=rng)).to(torch.uint8)


def dense_ncut(p, colours, radius=5, sigma_color=10.0, sigma_space=4.0):
    """From the whole matrix of affinities, in the dtype of p; colours count from 0 to 255."""
    height, width = p.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    at = torch.stack([y.flatten(), x.flatten()], 1).to(p.dtype)
    square = (at[:, None] - at).square().sum(2)
    c = colours.flatten(2).mT.to(p.dtype)
    apart = (c[:, :, None] - c[:, None]).square().sum(3)
    w = torch.exp(-apart / sigma_color**2) * torch.exp(-square / sigma_space**2)
    w = w * (square < radius**2)
    p = p.flatten(2)
    inner = torch.einsum("bki,bij,bkj->bk", p, w, p)
    outer = torch.einsum("bki,bij->bk", p, w)
    return p.shape[1] - (inner / outer).sum(1)


def value_and_gradient(loss, p):
    p = p.detach().requires_grad_()
    value = loss(p)
    (gradient,) = torch.autograd.grad(value.sum(), p)
    return value.detach(), gradient


def relative_error(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm()).item()


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


# --- Kinds of input ----------------------------------------------------------------------------


def test_ranges_of_the_image(backend):
    p, image = problem(1, 3, 3, 9, 12)
    expected = soft_ncut(p, image, backend=backend)
    same = lambda image, **range: torch.allclose(  # noqa: E731
        soft_ncut(p, image, backend=backend, **range), expected, rtol=1e-5
    )
    assert same(image.float() / 255)
    assert same(image.double() / 255)
    assert same(image.float(), value_range=(0, 255))
    assert same(image.float() / 127.5 - 1, value_range=(-1, 1))
    assert not same(image, value_range=(0, 300))
    assert same(image.to(memory_format=torch.channels_last))


def test_takes_any_layout(backend):
    p, image = problem(2, 4, 3, 13, 20)
    expected = value_and_gradient(lambda p: soft_ncut(p, image, backend=backend), p)
    wide = torch.stack([p, -p], -1)[..., 0]
    for other in (p.to(memory_format=torch.channels_last), p.mT.contiguous().mT, wide):
        assert not other.is_contiguous()
        actual = value_and_gradient(lambda p: soft_ncut(p, image, backend=backend), other)
        assert all(map(torch.equal, actual, expected))
    wide_image = torch.stack([image, image], -1)[..., 0]
    assert torch.equal(soft_ncut(p, wide_image, backend=backend), expected[0])


def test_same_bits_for_any_batch_and_threads(backend, threads):
    p, image = problem(3, 3, 3, 70, 41)
    loss = lambda p, image: value_and_gradient(  # noqa: E731
        lambda p: soft_ncut(p, image, backend=backend), p
    )
    whole = loss(p, image)
    for i in range(3):
        alone = loss(p[i : i + 1], image[i : i + 1])
        assert all(torch.equal(a, b[i : i + 1]) for a, b in zip(alone, whole, strict=True))
    for count in threads:
        torch.set_num_threads(count)
        assert all(map(torch.equal, loss(p, image), whole))


def test_autocast_changes_nothing(backend):
    p, image = problem(1, 3, 3, 9, 12)
    expected = soft_ncut(p, image, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(soft_ncut(p, image, backend=backend), expected)


# --- Gradients, operator, compiler -------------------------------------------------------------


def test_gradients_of_any_order(backend):
    p, image = problem(2, 2, 1, 3, 4, dtype=torch.float64)
    p.requires_grad_()
    loss = lambda p: soft_ncut(p, image, 3, 40.0, backend=backend)  # noqa: E731
    torch.autograd.gradcheck(loss, p)
    torch.autograd.gradgradcheck(loss, p)

    def third(p):
        (gradient,) = torch.autograd.grad(loss(p).sum(), p, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), p, create_graph=True)
        return second

    torch.autograd.gradcheck(third, p, fast_mode=True)


def test_every_output_has_its_gradient(backend):
    p, image = problem(1, 2, 1, 3, 4, dtype=torch.float64)
    p.requires_grad_()
    options = 0.0, 255.0, 3, 40.0, 4.0, backend
    for output in range(3):
        part = lambda p: torch.ops.fastseg.ncut_sums(p, image, *options)[output]  # noqa: E731, B023
        torch.autograd.gradcheck(part, p)
        torch.autograd.gradgradcheck(part, p, fast_mode=True)


def test_the_image_is_a_constant(backend):
    p, image = problem(1, 2, 3, 5, 6)
    image = (image.float() / 255).requires_grad_()
    assert not soft_ncut(p, image, backend=backend).requires_grad


def test_sound_operator(backend):
    p, image = problem(1, 2, 3, 7, 5)
    for view in (p, p.transpose(2, 3).contiguous().mT, p.to(memory_format=torch.channels_last)):
        for wants_gradient in (False, True):
            inputs = (view.detach().requires_grad_(wants_gradient), image)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
                torch.library.opcheck(
                    torch.ops.fastseg.ncut_sums.default,
                    (*inputs, 0.0, 255.0, 5, 10.0, 4.0, backend),
                )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_compiles_whole(backend):
    compiler = "inductor" if backend == "native" and shutil.which("g++") else "aot_eager"
    logits, image = torch.randn(2, 3, 11, 13), problem(2, 3, 3, 11, 13)[1]

    def loss(logits):
        return soft_ncut(logits.softmax(1), image, backend=backend).mean()

    logits.requires_grad_()
    compiled = torch.compile(loss, fullgraph=True, backend=compiler)
    actual, expected = (torch.autograd.grad(f(logits), logits)[0] for f in (compiled, loss))
    assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-8)


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
