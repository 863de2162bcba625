"""masked_conv2d and masked_conv2d_pair: values, orderings, activation, pairs."""

# mypy: disable-error-code="call-arg, misc, arg-type"

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import masked_conv2d, masked_conv2d_pair
from fastseg.orderings import opposite, ranks, turn, turn_back
from tests.ops.masked_problems import (
    BACKENDS,
    RASTER,
    SHAPES,
    chosen,
    integers,
    padded,
    problem,
    value_and_gradients,
)

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch) -> str:
    return chosen(request.param, monkeypatch)


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]

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


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("ordering", RASTER)
@pytest.mark.parametrize("shape", [(2, 40, 100, 13, 45, 3, 1, 1), (1, 130, 24, 40, 8, 3, 1, 1)])
def test_many_channels(shape, ordering, channels_last):
    """Of whole blocks of our own kernel, and its edges."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    tensors = [integers(tensor.shape, i) for i, tensor in enumerate(problem(shape))]
    tensors = [t.contiguous(memory_format=layout) if t.ndim == 4 else t for t in tensors]
    *tensors, residual, grad = *tensors[:3], tensors[3].flip(0), tensors[3]
    actual, expected = (
        value_and_gradients(lambda *t, f=f: (f(*t) + residual).relu(), tensors, grad)
        for f in (
            lambda *t: masked_conv2d(*t, ordering, backend="native"),
            lambda *t: padded(*t, ordering),
        )
    )
    assert all(map(torch.equal, actual, expected))
    options = {"activation": "relu", "residual": residual}
    fused = masked_conv2d(
        *(t.float() for t in tensors), ordering, **{**options, "residual": residual.float()}
    )
    assert torch.equal(fused.double(), expected[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ordering", [0, 1, 6])
@pytest.mark.parametrize("shape", [*SHAPES[1:4], (2, 32, 48, 14, 19, 3, 1, 1)])
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
def test_masked_taps(size, backend):
    """⌊F/2⌋ of the F² weights have no gradient, whatever the input, and no effect."""
    x, weight = torch.full((1, 1, 20, 20), math.inf), torch.ones(1, 1, size, size)
    for ordering in RASTER:
        _, _, gradient = value_and_gradients(
            lambda x, w, o=ordering: masked_conv2d(x, w, None, o, backend=backend), (x, weight), x
        )
        dead = gradient == 0
        assert dead.sum() == size // 2
        bad = weight.masked_fill(dead, math.nan)
        assert masked_conv2d(x.zero_(), bad, None, ordering, backend=backend).isfinite().all()
        x.fill_(math.inf)


def test_all_weights_are_trained_by_opposites():
    x, weight = torch.ones(1, 2, 9, 9), torch.ones(3, 2, 5, 5, requires_grad=True)
    for ordering in RASTER:
        both = sum(masked_conv2d(x, weight, None, o).sum() for o in (ordering, opposite(ordering)))
        (gradient,) = torch.autograd.grad(both, weight)
        assert (gradient > 0).all()


# --- Orderings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", RASTER)
@pytest.mark.parametrize(
    ("size", "dilation", "of"),
    [
        (1, 1, "reference"),
        (3, 2, "reference"),
        (5, 1, "reference"),
        (7, 1, "reference"),
        (3, 1, "native"),
    ],
)
def test_orderings_are_the_first_turned(size, dilation, of, ordering):
    """To the bit, of the definition and of our own kernel: gradients, too."""
    x, weight, bias, grad = problem((2, 25, 24, 6, 11, size, dilation, 1), torch.float64)
    options = {"dilation": dilation, "backend": of}
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


def test_blind_spot(backend):
    """Of Fig. 6: however many layers, not what is right of the diagonal."""
    seen = support(20, 3, 1, 1, 9, 12, backend)[6, 5].int()
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


@given(
    st.integers(0, 1000), st.integers(1, 8), st.sampled_from([1, 3, 5, 7]), st.sampled_from([2, 24])
)
def test_nothing_is_seen_before_its_turn(seed, ordering, size, channels):
    """Other values after a pixel in the ordering, numbers or not, leave its result as it is, to the
    bit."""
    x, weight, bias, _ = problem((1, channels, 24, 6, 7, size, 1, 1), seed=seed)
    place = ranks(6, 7, ordering)
    pixel = place == seed % 42
    other = math.nan if size == 3 and channels == 24 else 1.0
    changed = torch.where(place > seed % 42, x + other, x)
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
