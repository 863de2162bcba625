"""masked_conv2d and masked_conv2d_pair."""

# mypy: disable-error-code="call-arg, misc, arg-type"

import math
import shutil
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fastseg import backends, masked_conv2d, masked_conv2d_pair
from fastseg.orderings import opposite, ranks, turn, turn_back

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
RASTER = range(1, 9)
SHAPES: list[tuple[int, int, int, int, int, int, int, int]] = [  # B, C, O, H, W, F, d, groups
    (1, 1, 1, 1, 1, 3, 1, 1),
    (2, 3, 5, 5, 9, 3, 1, 1),
    (1, 4, 6, 7, 4, 5, 1, 2),
    (3, 2, 4, 9, 1, 3, 2, 2),
    (1, 3, 2, 3, 5, 7, 1, 1),  # a kernel larger than the picture
    (2, 4, 4, 6, 5, 1, 1, 4),
    (1, 2, 3, 8, 9, 5, 3, 1),
]
# As `F.pad` takes it: the past of orderings 1, 2, 3, 4 is above, left, below, right.
SIDES = ((1, 1, 2, 0), (2, 0, 1, 1), (1, 1, 0, 2), (0, 2, 1, 1))


@pytest.fixture(params=["torch", "reference"])
def backend(request) -> str:
    return request.param


def integers(shape, seed, dtype=torch.float64):
    """Whose sums are exact, in any order."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, shape, generator=rng).to(dtype)


def problem(shape, dtype=torch.float32, seed=0):
    """x, weight, bias and a gradient of the result."""
    batch, channels, outs, height, width, size, _, groups = shape
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn((batch, channels, height, width), generator=rng)
    weight = torch.randn((outs, channels // groups, size, size), generator=rng) / 4
    bias = torch.randn(outs, generator=rng)
    grad = torch.randn((batch, outs, height, width), generator=rng)
    return tuple(tensor.to(dtype) for tensor in (x, weight, bias, grad))


def padded(x, weight, bias, ordering, dilation=1, groups=1):
    """`F.pad`, `weight * mask`, `F.conv2d`; the mask from the places of pixels in the ordering."""
    size = weight.shape[2]
    half = size // 2
    if ordering == 0:
        options = {"padding": half * dilation, "dilation": dilation, "groups": groups}
        return F.conv2d(x, weight, bias, **options)
    sides = SIDES[(ordering - 1) % 4]
    middle = half + half * (sides[2] - sides[3]) // 2, half + half * (sides[0] - sides[1]) // 2
    place = ranks(size, size, ordering)
    mask = (place <= place[middle]).to(x.dtype)
    assert mask.sum() == size * size - half
    x = F.pad(x, [half * dilation * side for side in sides])
    return F.conv2d(x, weight * mask, bias, dilation=dilation, groups=groups)


def value_and_gradients(convolve, tensors, grad):
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    out = convolve(*tensors)
    return out.detach(), *torch.autograd.grad(out, tensors, grad)


# --- Values ------------------------------------------------------------------------------------


def test_by_hand(backend):
    """Ones: each result counts the pixels that are seen."""
    x, weight = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    seen = [
        [[1, 2, 2], [3, 5, 4], [5, 8, 6]],  # the last row: two above, itself and what is left
        [[3, 6, 5], [3, 5, 5], [2, 3, 4]],
    ]
    first = masked_conv2d(x, weight, None, 1, backend=backend)
    assert first[0, 0].tolist() == [[1, 2, 2], [3, 5, 4], [5, 8, 6]] == seen[0]
    second = masked_conv2d(x, weight, None, 2, backend=backend)
    assert second[0, 0].tolist() == turn(torch.tensor(seen[0]), 2).tolist()
    full = masked_conv2d(x, weight, None, 0, backend=backend)
    assert full[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


def test_taps_by_hand(backend):
    """One bright pixel spreads the weights, those masked left out."""
    x = torch.zeros(1, 1, 4, 5)
    x[0, 0, 1, 2] = 1
    weight = torch.arange(1.0, 10).view(1, 1, 3, 3)
    out = masked_conv2d(x, weight, torch.tensor([10.0]), 1, backend=backend)
    assert (out[0, 0] - 10).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 8, 7, 0],
        [0, 6, 5, 4, 0],
        [0, 3, 2, 1, 0],
    ]


@pytest.mark.parametrize("ordering", range(9))
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_padding_and_masking(shape, ordering, backend):
    """In numbers whose sums are exact; gradients, too, and those of masked weights are 0."""
    *_, dilation, groups = shape
    tensors = [integers(tensor.shape, i) for i, tensor in enumerate(problem(shape))]
    options = ordering, dilation, groups
    actual = value_and_gradients(
        lambda *t: masked_conv2d(*t, *options, backend=backend), tensors[:3], tensors[3]
    )
    expected = value_and_gradients(lambda *t: padded(*t, *options), tensors[:3], tensors[3])
    assert all(map(torch.equal, actual, expected))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ordering", [0, 1, 6])
@pytest.mark.parametrize("shape", SHAPES[1:4])
def test_error(shape, ordering, dtype, backend):
    """Value and gradients within twice the error of padding and masking in the same precision."""
    *_, dilation, groups = shape
    *tensors, grad = problem(shape, dtype)
    options = ordering, dilation, groups
    wide = [tensor.double() for tensor in tensors]
    exact = value_and_gradients(lambda *t: padded(*t, *options), wide, grad.double())
    plain = value_and_gradients(lambda *t: padded(*t, *options), tensors, grad)
    actual = value_and_gradients(
        lambda *t: masked_conv2d(*t, *options, backend=backend), tensors, grad
    )
    for part, other, expected in zip(actual, plain, exact, strict=True):
        assert part.dtype == dtype
        error, allowed = ((p.double() - expected).norm() for p in (part, other))
        assert error <= 2 * allowed + 4 * torch.finfo(dtype).eps * expected.norm()


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_masked_taps(size):
    """⌊F/2⌋ of the F² weights have no gradient, whatever the input, and no effect."""
    x, weight = torch.full((1, 1, 20, 20), math.inf), torch.ones(1, 1, size, size)
    for ordering in RASTER:
        _, _, gradient = value_and_gradients(
            lambda x, w, o=ordering: masked_conv2d(x, w, None, o), (x, weight), x
        )
        dead = gradient == 0
        assert dead.sum() == size // 2
        bad = weight.masked_fill(dead, math.nan)
        assert masked_conv2d(x.zero_(), bad, None, ordering).isfinite().all()
        x.fill_(math.inf)


def test_all_weights_are_trained_by_opposites():
    x, weight = torch.ones(1, 2, 9, 9), torch.ones(3, 2, 5, 5, requires_grad=True)
    for ordering in RASTER:
        both = sum(masked_conv2d(x, weight, None, o).sum() for o in (ordering, opposite(ordering)))
        (gradient,) = torch.autograd.grad(both, weight)
        assert (gradient > 0).all()


# --- Orderings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", RASTER)
@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_orderings_are_the_first_turned(size, ordering):
    """To the bit, of the definition: gradients, too."""
    tensors = problem((2, 3, 4, 6, 11, size, 2, 1), torch.float64)
    x, weight, bias, grad = tensors
    options = {"dilation": 2, "backend": "reference"}
    first = value_and_gradients(
        lambda x, w, b: masked_conv2d(x, w, b, 1, **options),
        (turn_back(x, ordering), turn_back(weight, ordering), bias),
        turn_back(grad, ordering),
    )
    actual = value_and_gradients(
        lambda x, w, b: masked_conv2d(x, w, b, ordering, **options), (x, weight, bias), grad
    )
    for part, expected in zip(actual, first, strict=True):
        assert torch.equal(part, turn(expected, ordering) if part.ndim == 4 else expected)


def support(layers, size, dilation, ordering, height, width, backend):
    """Which pixel's result depends on which: (H,W,H,W) bool, from a picture for each pixel."""
    x = torch.eye(height * width).view(-1, 1, height, width)
    weight = torch.full((1, 1, size, size), 1 / size)
    for _ in range(layers):
        x = masked_conv2d(x, weight, None, ordering, dilation, backend=backend)
    return (x[:, 0] > 0).view(height, width, height, width).permute(2, 3, 0, 1)


@pytest.mark.parametrize("ordering", RASTER)
@pytest.mark.parametrize(
    ("size", "layers", "dilation"), [(3, 1, 1), (3, 4, 1), (5, 3, 1), (3, 2, 2)]
)
def test_receptive_field(size, layers, dilation, ordering, backend):
    """Pixel by pixel: of the past within reach all, but for the blind spot: n rows up, no more than
    n·⌊F/2⌋ to the side that is yet to come."""
    height, width, half = 9, 12, size // 2
    expected = torch.zeros((height, width, height, width), dtype=torch.bool)
    if (ordering - 1) % 2:
        height, width = width, height
        expected = expected.view(height, width, height, width)
    frame = torch.zeros((height, width, height, width), dtype=torch.bool)
    for y, x, up in np.ndindex(height, width, 2 * half * layers + 1):
        ahead = min(up, layers) * half
        for right in range(-layers * half, ahead + 1):
            i, j = y - up * dilation, x + right * dilation
            if i >= 0 and 0 <= j < width:
                frame[y, x, i, j] = True
    # Turned, first what is seen, then who sees.
    expected = turn(turn(frame, ordering).permute(2, 3, 0, 1), ordering).permute(2, 3, 0, 1)
    actual = support(layers, size, dilation, ordering, *expected.shape[:2], backend)
    assert torch.equal(actual, expected)


def test_blind_spot():
    """Of Fig. 6: however many layers, not what is right of the diagonal."""
    seen = support(20, 3, 1, 1, 9, 12, "torch")[6, 5].int()
    assert seen.tolist() == [
        [1] * 12,
        [1] * 11 + [0],
        [1] * 10 + [0] * 2,
        [1] * 9 + [0] * 3,
        [1] * 8 + [0] * 4,
        [1] * 7 + [0] * 5,
        [1] * 6 + [0] * 6,
        [0] * 12,
        [0] * 12,
    ]


@given(st.integers(0, 1000), st.integers(1, 8), st.sampled_from([1, 3, 5, 7]))
def test_nothing_is_seen_before_its_turn(seed, ordering, size):
    """Other values after a pixel in the ordering leave its result as it is, to the bit."""
    x, weight, bias, _ = problem((1, 2, 3, 6, 7, size, 1, 1), seed=seed)
    place = ranks(6, 7, ordering)
    pixel = place == seed % 42
    changed = torch.where(place > seed % 42, x + 1, x)
    before, after = (masked_conv2d(z, weight, bias, ordering) for z in (x, changed))
    assert torch.equal(before[..., pixel], after[..., pixel])


# --- Activation and residual -------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("ordering", [0, 1, 4])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("extra", [False, True])
def test_epilogue(extra, activation, ordering, layout, backend):
    x, weight, bias, grad = problem((3, 3, 5, 6, 7, 3, 1, 1), torch.float64)
    x = x.contiguous(memory_format=layout)
    residual = grad.flip(0)

    def plain(x, weight, bias, residual):
        out = padded(x, weight, bias, ordering) + (residual if extra else 0 * residual)
        return out.relu() if activation else out

    def ours(x, weight, bias, residual):
        options = {"activation": activation, "backend": backend}
        out = masked_conv2d(
            x, weight, bias, ordering, residual=residual if extra else None, **options
        )
        return out if extra else out + 0 * residual

    actual, expected = (
        value_and_gradients(f, (x, weight, bias, residual), grad) for f in (ours, plain)
    )
    for part, other in zip(actual, expected, strict=True):
        assert torch.allclose(part, other, rtol=1e-12, atol=1e-12)


def test_what_is_not_a_number_stays_so(backend):
    x = torch.full((1, 1, 2, 2), math.nan)
    out = masked_conv2d(x, torch.ones(1, 1, 1, 1), activation="relu", backend=backend)
    assert out.isnan().all()


# --- Pairs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("orderings", [(1, 3), (6, 0), (2, 2)])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_pair(activation, orderings, backend):
    *tensors, grad = problem((2, 3, 4, 5, 6, 3, 1, 1), torch.float64)
    options = {"activation": activation, "backend": backend}
    singles = lambda *t: torch.stack([masked_conv2d(*t, o, **options) for o in orderings])  # noqa: E731
    pair = lambda *t: torch.stack(masked_conv2d_pair(*t, orderings, **options))  # noqa: E731
    grads = torch.stack([grad, grad.flip(3)])
    actual, expected = (value_and_gradients(f, tensors, grads) for f in (pair, singles))
    for part, other in zip(actual, expected, strict=True):
        assert torch.allclose(part, other, rtol=1e-13)


def test_half_of_a_pair(backend):
    """One result unused, or all gradients but one."""
    *tensors, grad = problem((2, 3, 4, 5, 6, 3, 1, 1), torch.float64)
    for i, ordering in enumerate((1, 7)):
        actual, expected = (
            value_and_gradients(f, tensors, grad)
            for f in (
                lambda *t, i=i: masked_conv2d_pair(*t, (1, 7), backend=backend)[i],
                lambda *t, o=ordering: masked_conv2d(*t, o, backend=backend),
            )
        )
        assert all(map(torch.equal, actual, expected))
    x = tensors[0].detach().requires_grad_()
    out = masked_conv2d_pair(x, tensors[1], None, (1, 3), backend=backend)[1]
    assert torch.autograd.grad(out, x, grad)[0].shape == x.shape


# --- Kinds of input ----------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", [0, 1, 2, 3, 4])
def test_takes_any_layout(ordering, backend):
    tensors = [integers(t.shape, i) for i, t in enumerate(problem(SHAPES[1]))]
    x, weight, bias, grad = tensors
    convolve = lambda x, w, b: masked_conv2d(x, w, b, ordering, backend=backend)  # noqa: E731
    expected = value_and_gradients(convolve, (x, weight, bias), grad)
    last = torch.channels_last
    for other in (x.to(memory_format=last), x.mT.contiguous().mT, torch.stack([x, x], -1)[..., 0]):
        assert not other.is_contiguous()
        for w in (weight, weight.to(memory_format=last)):
            for g in (grad, grad.to(memory_format=last), grad[:, :1].expand_as(grad)):
                actual = value_and_gradients(convolve, (other, w, bias), g)
                assert torch.equal(actual[0], expected[0])
                if g is not grad and g.stride(1) == 0:
                    continue
                assert all(map(torch.equal, actual, expected))
                assert (actual[0].stride(1) == 1) == other.is_contiguous(memory_format=last)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_nothing(shape, backend):
    x = torch.rand(shape, requires_grad=True)
    weight, bias = torch.rand(2, 3, 3, 3, requires_grad=True), torch.rand(2, requires_grad=True)
    for ordering in (0, 1, 2):
        out = masked_conv2d(x, weight, bias, ordering, activation="relu", backend=backend)
        assert out.shape == (shape[0], 2, *shape[2:])
        gradients = torch.autograd.grad(out.sum(), (x, weight, bias))
        assert all((gradient == 0).all() for gradient in gradients)
        pair = masked_conv2d_pair(x, weight, bias, (ordering, 3), backend=backend)
        assert [out.shape for out in pair] == [(shape[0], 2, *shape[2:])] * 2


def test_same_bits_for_any_threads(threads):
    *tensors, grad = problem((3, 5, 8, 20, 21, 3, 1, 1))
    convolve = lambda *t: masked_conv2d(*t, 3)  # noqa: E731
    expected = value_and_gradients(convolve, tensors, grad)[:2]
    for count in threads:
        torch.set_num_threads(count)
        assert all(map(torch.equal, value_and_gradients(convolve, tensors, grad)[:2], expected))


def test_autocast(backend):
    x, weight, bias, _ = problem(SHAPES[1])
    half = [t.bfloat16() for t in (x, weight, bias)]
    expected = masked_conv2d(
        *half, 1, residual=half[0][:, :1].expand(-1, 5, -1, -1), backend=backend
    )
    with torch.autocast("cpu", torch.bfloat16):
        actual = masked_conv2d(
            x, weight, bias, 1, residual=x[:, :1].expand(-1, 5, -1, -1), backend=backend
        )
        assert actual.dtype == torch.bfloat16
        assert torch.equal(actual, expected)
        wide = masked_conv2d(x.double(), weight.double(), None, 1, backend=backend)
        assert wide.dtype == torch.float64


def test_backends():
    assert backends.resolve("masked_conv2d", torch.device("cpu")) == "torch"
    assert backends.resolve("masked_conv2d", torch.device("cuda")) == "torch"
    with pytest.raises(
        backends.BackendUnavailable, match="'native' cannot run masked_conv2d: it ha"
    ):
        masked_conv2d(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1), backend="native")


# --- Gradients, operator, compiler -------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(
    ("ordering", "dilation", "groups"), [(0, 1, 1), (1, 1, 2), (4, 2, 1), (7, 1, 1)]
)
def test_gradients_of_any_order(ordering, dilation, groups, activation, backend):
    shape = (1, 2, 2, 3, 4, 3, dilation, groups)
    x, weight, bias, residual = (t.requires_grad_() for t in problem(shape, torch.float64))

    def convolve(x, weight, bias, residual):
        options = {"activation": activation, "backend": backend}
        return masked_conv2d(
            x, weight, bias, ordering, dilation, groups, residual=residual, **options
        )

    torch.autograd.gradcheck(convolve, (x, weight, bias, residual))
    torch.autograd.gradgradcheck(convolve, (x, weight, bias, residual), fast_mode=True)


def test_gradients_of_a_pair(backend):
    tensors = problem((1, 1, 2, 3, 3, 3, 1, 1), torch.float64)[:3]
    tensors = tuple(tensor.requires_grad_() for tensor in tensors)
    pair = lambda *t: masked_conv2d_pair(*t, (2, 8), activation="relu", backend=backend)  # noqa: E731
    torch.autograd.gradcheck(pair, tensors)
    torch.autograd.gradgradcheck(pair, tensors, fast_mode=True)


def opcheck(operator, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
        torch.library.opcheck(operator, arguments)


def test_sound_operators(backend):
    x, weight, bias, grad = problem((2, 3, 4, 5, 6, 3, 1, 1))
    last = torch.channels_last
    for view in (x, x.mT.contiguous().mT, x.to(memory_format=last)):
        for wants in (False, True):
            of_x, of_weight, of_grad = (
                t.detach().requires_grad_(wants) for t in (view, weight, grad)
            )
            for ordering, relu in ((1, False), (2, True)):
                options = ordering, 1, 1, relu, backend
                single = torch.ops.fastseg.masked_conv2d.default
                opcheck(single, of_x, of_weight, bias, of_grad if relu else None, *options)
            pair = torch.ops.fastseg.masked_conv2d_pair.default
            opcheck(pair, of_x, of_weight, None, 1, 2, 1, 1, False, backend)
            of_weights = torch.ops.fastseg.masked_conv2d_weight.default
            opcheck(of_weights, of_grad, of_x, 3, 4, 1, 1, backend)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_compiles_whole(layout, backend):
    whole = backend == "torch" and layout == torch.channels_last and shutil.which("g++")
    compiler = "inductor" if whole else "aot_eager"
    x, weight, bias, _ = problem((2, 3, 4, 5, 7, 3, 1, 1))
    x = x.contiguous(memory_format=layout)

    def loss(x, weight, bias):
        out = masked_conv2d(x, weight, bias, 2, activation="relu", backend=backend)
        one, other = masked_conv2d_pair(
            out, weight[:, :1].repeat(1, 4, 1, 1), None, backend=backend
        )
        return (one * other.cos()).sum()

    compiled = torch.compile(loss, fullgraph=True, backend=compiler)
    grad = torch.ones(())
    actual, expected = (value_and_gradients(f, (x, weight, bias), grad) for f in (compiled, loss))
    for part, other in zip(actual, expected, strict=True):
        assert torch.allclose(part, other, rtol=1e-4, atol=1e-5)


# --- Bad input ---------------------------------------------------------------------------------

X, W = torch.zeros(2, 4, 5, 6), torch.zeros(6, 4, 3, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((2, 4, 5, 6))}, TypeError, "`x` must be a torch.Tensor, got ndarray"),
        ({"x": X[0]}, ValueError, r"`x` must have 4 dimensions \(B, C, H, W\), got .*\(4, 5, 6\)"),
        ({"x": X.int()}, TypeError, "`x` must be float32 or float64 or .*, got int32"),
        ({"weight": 1}, TypeError, "`weight` must be a torch.Tensor, got int"),
        ({"weight": W[0]}, ValueError, r"`weight` must have 4 dimensions \(O, C, F, F\)"),
        ({"weight": W.double()}, TypeError, "`weight` must be float32, got float64"),
        ({"weight": W.to("meta")}, ValueError, r"`weight` must be on the device of `x` \(cpu\)"),
        ({"weight": W[..., :2]}, ValueError, "`weight` must be 1×1, 3×3, 5×5 or 7×7, got 3×2"),
        ({"weight": torch.zeros(6, 4, 9, 9)}, ValueError, "`weight` must be 1×1, .*, got 9×9"),
        ({"weight": W[:, :3]}, ValueError, r"`weight` must have `x`'s 4 channels .*, got 3"),
        (
            {"weight": W[:0]},
            ValueError,
            r"`weight` must have a multiple of `groups` \(1\) rows, g.* 0",
        ),
        ({"groups": 4}, ValueError, r"`weight` must have a multiple of `groups` \(4\) rows, got 6"),
        ({"groups": 2}, ValueError, r"channels ÷ `groups` \(2\), at least 1, got 4"),
        ({"groups": 0}, ValueError, "`groups` must be an integer of at least 1, got 0"),
        ({"bias": X}, ValueError, r"`bias` must have shape \(6\), got \(2, 4, 5, 6\)"),
        ({"bias": X[0, 0, 0].half()}, TypeError, "`bias` must be float32, got float16"),
        ({"bias": W[:, 0, 0, 0].to("meta")}, ValueError, "`bias` must be on the device of `x`"),
        ({"dilation": 0}, ValueError, "`dilation` must be an integer of at least 1, got 0"),
        ({"dilation": 1.5}, TypeError, "`dilation` must be an integer, got float"),
        (
            {"activation": "gelu"},
            ValueError,
            "`activation` must be one of None, 'relu', got 'gelu'",
        ),
        ({"backend": "gpu"}, ValueError, "`backend` must be one of 'auto', .* got 'gpu'"),
    ],
)
def test_refusals(change, error, message):
    for convolve in (masked_conv2d, masked_conv2d_pair):
        with pytest.raises(error, match=message):
            convolve(**{"x": X, "weight": W, **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"ordering": 9}, ValueError, "`ordering` must be an integer from 0 to 8, got 9"),
        ({"ordering": -1}, ValueError, "`ordering` must be an integer of at least 0, got -1"),
        ({"ordering": "1"}, TypeError, "`ordering` must be an integer, got str"),
        ({"residual": X}, ValueError, r"`residual` must have shape \(2, 6, 5, 6\), got \(2, 4"),
        ({"residual": 1}, TypeError, "`residual` must be a torch.Tensor, got int"),
        (
            {"residual": torch.zeros(2, 6, 5, 6).half()},
            TypeError,
            "`residual` must be float32, got",
        ),
        ({"residual": torch.zeros(2, 6, 5, 6, device="meta")}, ValueError, "`residual` must be on"),
    ],
)
def test_refusals_of_one(change, error, message):
    with pytest.raises(error, match=message):
        masked_conv2d(**{"x": X, "weight": W, **change})


@pytest.mark.parametrize(
    ("orderings", "error", "message"),
    [
        (1, ValueError, "`orderings` must be two of 0 … 8, got 1"),
        ((1, 2, 3), ValueError, r"`orderings` must be two of 0 … 8, got \(1, 2, 3\)"),
        ((1, 9), ValueError, "`orderings` must be an integer from 0 to 8, got 9"),
    ],
)
def test_refusals_of_a_pair(orderings, error, message):
    with pytest.raises(error, match=message):
        masked_conv2d_pair(X, W, None, orderings)
