"""What `iem` promises whatever the backend: how runs end, what goes in and comes out, refusals."""

import math
import os
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cases.inpaint import prepare_batch
from benchmarks.images import photographs
from benchmarks.memory import peak_of
from fastseg import IEMStatus, backends, iem

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")


def noise(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))


def assert_equal(actual, expected):
    for name in ("masks", "error", "steps", "status"):
        assert torch.equal(getattr(actual, name), getattr(expected, name)), name


def square(height, width, top, left, side):
    mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    mask[..., top : top + side, left : left + side] = True
    return mask


# --- What is found, and how a run ends ---------------------------------------------------------


def test_finds_a_square_by_hand(backend):
    """Black on white: each side is inpainted with the other's colour, 2 away in [−1,1]."""
    truth = square(32, 32, 9, 11, 12)
    images = torch.where(truth, 0, 255).byte().expand(1, 3, -1, -1)
    result = iem(images, square(32, 32, 12, 14, 6), backend=backend)
    assert torch.equal(result.masks, truth)
    assert result.error.item() == pytest.approx(4, rel=1e-5)
    assert result.status.tolist() == [IEMStatus.FIXED_POINT]
    assert 3 < result.steps.item() < 20


def test_kinds_of_results(backend):
    result = iem(noise(2, 3, 9, 14), iterations=3, backend=backend)
    assert (result.masks.dtype, result.masks.shape) == (torch.bool, (2, 1, 9, 14))
    for part, dtype in ((result.error, torch.float32), (result.steps, torch.int32)):
        assert (part.dtype, part.shape) == (dtype, (2,))
    assert (result.status.dtype, result.status.shape) == (torch.int32, (2,))


def test_error_is_that_of_the_mask(backend):
    """As inpainting with `gaussian_inpaint` gives it."""
    from fastseg import gaussian_inpaint

    images = photographs(2, 40)
    result = iem(images, iterations=5, backend=backend)
    x, mask = images.double() / 127.5 - 1, result.masks
    expected = torch.zeros(2, dtype=torch.float64)
    for layer in (mask, ~mask):
        miss = (x - gaussian_inpaint(x, ~layer)).abs().mean(1, keepdim=True)
        expected += (miss * layer).sum((1, 2, 3)) / layer.sum((1, 2, 3))
    assert torch.allclose(result.error.double(), expected, rtol=1e-5, atol=0)


def test_a_flat_picture_keeps_its_mask(backend):
    images = torch.tensor([0, 37, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 20, 31)
    result = iem(images, 78, smoothing="none", backend=backend)
    assert torch.equal(result.masks, iem(images, 78, 0, backend=backend).masks)
    assert result.error.tolist() == [0, 0, 0]
    assert result.steps.tolist() == [1, 1, 1]
    assert (result.status == IEMStatus.FIXED_POINT).all()


@pytest.mark.parametrize("value", [False, True])
def test_an_initial_mask_of_one_layer(value, backend):
    init = torch.full((2, 1, 10, 12), value)
    init[1, 0, 2:8, 3:9] = not value
    result = iem(noise(2, 3, 10, 12), init, 4, backend=backend)
    assert torch.equal(result.masks[:1], init[:1])
    assert (result.error[0], result.steps[0]) == (0, 0)
    assert result.status.tolist() == [IEMStatus.EMPTIED, IEMStatus.EXHAUSTED]


def test_a_picture_of_one_pixel(backend):
    result = iem(torch.full((1, 3, 1, 1), 9, dtype=torch.uint8), backend=backend)
    assert result.masks.tolist() == [[[[True]]]]
    assert (result.error.item(), result.steps.item()) == (0, 0)
    assert result.status.item() == IEMStatus.EMPTIED


def test_an_update_that_empties_a_layer_is_not_taken(backend):
    """A single pixel does not outlive the paper's smoothing."""
    init = square(20, 20, 10, 10, 1)
    result = iem(noise(1, 1, 20, 20), init, 9, smoothing="paper", backend=backend)
    assert torch.equal(result.masks, init)
    assert (result.steps.item(), result.status.item()) == (1, IEMStatus.EMPTIED)
    assert result.error.item() > 0


@pytest.mark.parametrize("iterations", [30, 31, 60])
def test_stopping_early_changes_nothing(iterations, backend):
    """Single updates, which know of no fixed point or cycle, lead to the same masks."""
    images = photographs(8, 48)[[1, 2, 4, 7]]
    expected = iem(images, 78, 0, backend=backend).masks
    for _ in range(iterations):
        expected = iem(images, expected, 1, backend=backend).masks
    result = iem(images, 78, iterations, backend=backend)
    assert torch.equal(result.masks, expected)
    if iterations == 60:
        fixed, cycle = IEMStatus.FIXED_POINT, IEMStatus.CYCLE
        assert result.status.tolist() == [fixed, cycle, fixed, cycle]
        assert (result.steps < 60).all()


def test_steps_are_those_computed(backend):
    images = photographs(2, 40)
    for iterations in range(4):
        result = iem(images, 78, iterations, backend=backend)
        assert result.steps.tolist() == [iterations] * 2
        assert (result.status == IEMStatus.EXHAUSTED).all()


def test_of_several_squares_the_best_is_kept(backend):
    images, sides = photographs(4, 24), (44, 78, 92)
    result = iem(images, sides, 8, backend=backend)
    runs = [iem(images, side, 8, backend=backend) for side in sides]
    best = torch.stack([run.error for run in runs]).argmax(0)
    assert len(best.unique()) > 1
    for i, run in enumerate(best):
        for name in ("masks", "error", "steps", "status"):
            assert torch.equal(getattr(result, name)[i], getattr(runs[run], name)[i]), name
    assert_equal(iem(images, [78], 8, backend=backend), runs[1])
    assert_equal(iem(images, np.int64(78), 8, backend=backend), runs[1])


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [
        ((128, 128), 78, (25, 25, 78, 78)),  # the authors' [S//5, S−S//5)
        ((128, 200), 44, (42, 78, 44, 44)),
        ((64, 64), 44, (21, 21, 22, 22)),
        ((3, 3), 1, (1, 1, 1, 1)),  # at least a pixel
        ((4, 9), 256, (0, 0, 4, 8)),
    ],
)
def test_initial_squares(shape, side, expected, backend):
    top, left, height, width = expected
    mask = iem(torch.zeros(1, 1, *shape), side, 0, backend=backend).masks[0, 0]
    want = torch.zeros(shape, dtype=torch.bool)
    want[top : top + height, left : left + width] = True
    assert torch.equal(mask, want)


# --- What does not matter ----------------------------------------------------------------------


def test_batch_and_threads_change_no_bit(backend, threads):
    size, iterations = (40, 15) if backend == "native" else (16, 3)
    images = photographs(5, size)
    whole = iem(images, iterations=iterations, backend=backend)
    for order in ([4, 2, 0, 3, 1], [3]):
        result = iem(images[order], iterations=iterations, backend=backend)
        assert torch.equal(result.masks, whole.masks[order])
        assert torch.equal(result.status, whole.status[order])
        if backend == "native":  # convolutions of PyTorch round as the batch has it
            assert torch.equal(result.error, whole.error[order])
    for count in threads:
        torch.set_num_threads(count)
        assert_equal(iem(images, iterations=iterations, backend=backend), whole)


def test_any_layout(backend):
    images = noise(3, 3, 18, 26)
    expected = iem(images, iterations=4, backend=backend)
    wide = torch.stack([images, 255 - images], -1)[..., 0]
    for other in (images.to(memory_format=torch.channels_last), images.mT.contiguous().mT, wide):
        assert not other.is_contiguous()
        assert_equal(iem(other, iterations=4, backend=backend), expected)
    init = noise(3, 1, 18, 26, seed=1) > 127
    expected = iem(images, init, 4, backend=backend)
    assert_equal(iem(images, init.mT.contiguous().mT, 4, backend=backend), expected)
    grey = images[:1, :1].expand(2, 3, -1, -1)
    mask = init[:1].expand(2, -1, -1, -1)
    expected = iem(grey.contiguous(), mask.contiguous(), 4, backend=backend)
    assert_equal(iem(grey, mask, 4, backend=backend), expected)


def test_any_type_and_range(backend):
    images = noise(2, 3, 20, 22) // 4 * 4  # float16 holds k/64
    expected = iem(images, iterations=6, backend=backend)
    ranges = (0, 255), (0.0, 1.0), (-1, 1)
    for dtype in (torch.float32, torch.float64):
        for lo, hi in ranges:
            pixels = images.to(dtype) / 255 * (hi - lo) + lo
            result = iem(pixels, iterations=6, value_range=(lo, hi), backend=backend)
            assert torch.equal(result.masks, expected.masks)
            assert torch.allclose(result.error, expected.error, rtol=1e-5)
    assert torch.equal(iem(images / 255, iterations=6, backend=backend).masks, expected.masks)
    for dtype in (torch.float16, torch.bfloat16):
        pixels = (images / 4).to(dtype)
        result = iem(pixels, iterations=6, value_range=(0, 63.75), backend=backend)
        assert torch.equal(result.masks, expected.masks)


def test_no_gradient_no_mode_matters(backend):
    images = noise(1, 3, 14, 15) / 255
    expected = iem(images, iterations=5, backend=backend)
    with torch.inference_mode():
        assert_equal(iem(images.clone(), iterations=5, backend=backend), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal(iem(images, iterations=5, backend=backend), expected)
    result = iem(images.requires_grad_(), iterations=5, backend=backend)
    assert not result.error.requires_grad
    assert_equal(result, expected)


@given(st.integers(0, 2**32), st.lists(st.integers(0, 100), min_size=3, max_size=3))
def test_a_constant_added_to_a_channel_changes_nothing(seed, constants):
    images = noise(1, 3, 15, 18, seed=seed) // 2
    moved = images + torch.tensor(constants).byte().view(1, 3, 1, 1)
    expected = iem(images, 70, 8)
    result = iem(moved, 70, 8)
    assert torch.equal(result.masks, expected.masks)
    assert torch.allclose(result.error, expected.error, rtol=1e-5)


@given(st.integers(0, 2**32), st.permutations(range(4)))
def test_order_of_channels_changes_nothing(seed, order):
    images = noise(1, 4, 15, 18, seed=seed)
    assert torch.equal(iem(images[:, order], 70, 8).masks, iem(images, 70, 8).masks)


@given(st.integers(0, 2**32), st.sampled_from([(2,), (3,), (2, 3)]), st.booleans())
def test_a_flipped_picture_has_the_flipped_mask(seed, axes, transpose):
    images, init = noise(1, 3, 15, 18, seed=seed), noise(1, 1, 15, 18, seed=seed + 1) > 100

    def turn(x):
        return x.flip(axes).mT if transpose else x.flip(axes)

    assert torch.equal(iem(turn(images), turn(init), 8).masks, turn(iem(images, init, 8).masks))


@pytest.mark.parametrize("shape", [(0, 3, 8, 9), (2, 3, 0, 9), (2, 3, 8, 0)])
def test_nothing_to_segment(shape, backend):
    for images in (torch.zeros(shape), torch.zeros(shape, dtype=torch.uint8)):
        result = iem(images, backend=backend)
        assert result.masks.shape == (shape[0], 1, *shape[2:])
        assert result.error.tolist() == result.steps.tolist() == [0] * shape[0]
        assert result.status.tolist() == [IEMStatus.EMPTIED] * shape[0]


# --- As an operator ----------------------------------------------------------------------------


def test_is_a_sound_operator(backend):
    options = (0.0, 255.0, 3, 0.001, "authors", True, 5.0, 11, 2, backend)
    init = noise(1, 2, 8, 9, seed=1) > 127
    for images in (noise(1, 3, 8, 9), noise(1, 3, 9, 8).mT):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
            torch.library.opcheck(torch.ops.fastseg.iem.default, (images, init, *options))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_compiles_whole(backend):
    def background(images):
        result = iem(images, (44, 78), 4, backend=backend)
        return images * ~result.masks, result.error + 1

    images = noise(2, 3, 16, 17) / 255
    compiled = torch.compile(background, fullgraph=True, backend="aot_eager")(images)
    for actual, expected in zip(compiled, background(images), strict=True):
        assert torch.equal(actual, expected)


# Under AddressSanitizer freed memory stays resident.
@pytest.mark.skipif("libasan" in Path("/proc/self/maps").read_text(), reason="AddressSanitizer")
def test_memory_of_a_thousand_pictures():
    """At most twice the input, which is there before the call, the output, a state a thread."""
    if backends.why_not("native"):
        pytest.skip("the extension is not built")
    count, pixels, state = 1000, 128 * 128, 3 << 20
    rise = peak_of(partial(prepare_batch, count, 3, "native"))
    assert rise <= count * 3 * pixels + count * pixels + (os.cpu_count() or 1) * state


# --- Bad input ---------------------------------------------------------------------------------

X = torch.zeros(2, 3, 8, 9)


@pytest.mark.parametrize("kernel", [{"sigma": 1e-200}, {"sigma": 1e300}], ids=str)
def test_extreme_kernels(kernel, backend):
    masks = iem(X, iterations=3, **kernel, backend=backend).masks
    assert torch.equal(masks, iem(X.double(), iterations=3, **kernel, backend="reference").masks)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": "photo.png"}, TypeError, "`images` must be a torch.Tensor, a NumPy .* got str"),
        ({"images": [[1]]}, TypeError, "`images` must be a torch.Tensor, .* got list"),
        ({"images": X[0]}, ValueError, r"`images` must have 4 dimensions .* got shape \(3, 8, 9\)"),
        ({"images": X[:, :0]}, ValueError, r"at least one channel, got shape \(2, 0, 8, 9\)"),
        ({"images": X.int()}, TypeError, "`images` must be uint8 or float32 .*, got int32"),
        ({"images": X + math.nan}, ValueError, r"value range \[0, 1\], got nan"),
        ({"images": X + 1.5}, ValueError, r"value range \[0, 1\], got 1.5 … 1.5"),
        ({"images": X - 0.5}, ValueError, r"value range \[0, 1\], got -0.5 … -0.5"),
        ({"images": X.half() + math.inf}, ValueError, r"value range \[0, 1\], got inf"),
        ({"value_range": (1, 0)}, ValueError, r"`value_range` must be .* increasing, got \(1, 0\)"),
        ({"value_range": (1, 1)}, ValueError, r"`value_range` must be .* increasing, got \(1, 1\)"),
        ({"value_range": (0, math.nan)}, ValueError, r"`value_range` must be .* got \(0, nan\)"),
        ({"value_range": (0, math.inf)}, ValueError, r"`value_range` must be finite .* \(0, inf\)"),
        ({"value_range": (1,)}, ValueError, r"`value_range` must be two numbers, got \(1,\)"),
        ({"value_range": 255}, TypeError, "`value_range` must be two numbers, got 255"),
        ({"init": []}, ValueError, "`init` must name at least one square, got none"),
        ({"init": (78, 0)}, ValueError, "`init` must be an integer of at least 1, got 0"),
        ({"init": -4}, ValueError, "`init` must be an integer of at least 1, got -4"),
        ({"init": True}, TypeError, "`init` must be an integer, got bool"),
        ({"init": 1.5}, TypeError, "`init` must be an integer, got float"),
        ({"init": "78"}, TypeError, "`init` must be a torch.Tensor, .* got str"),
        ({"init": X[:, :1]}, TypeError, "`init` must be bool, got float32"),
        ({"init": X[:1, :1] > 0}, ValueError, r"`init` must have shape \(2, 1, 8, 9\), got \(1, 1"),
        ({"init": X > 0}, ValueError, r"`init` must have shape \(2, 1, 8, 9\), got \(2, 3, 8, 9\)"),
        ({"init": X[:, 0] > 0}, ValueError, r"`init` must have 4 dimensions .* got shape \(2, 8"),
        ({"iterations": -1}, ValueError, "`iterations` must be an integer of at least 0, got -1"),
        ({"iterations": 2.0}, TypeError, "`iterations` must be an integer, got float"),
        ({"iterations": True}, TypeError, "`iterations` must be an integer, got bool"),
        ({"lamb": -0.1}, ValueError, "`lamb` must be finite and at least 0, got -0.1"),
        ({"lamb": math.nan}, ValueError, "`lamb` must be finite and at least 0, got nan"),
        ({"lamb": "1"}, TypeError, "`lamb` must be a number, got str"),
        ({"smoothing": "mean"}, ValueError, "`smoothing` must be one of 'authors', .* got 'mean'"),
        ({"boundary_only": "no"}, ValueError, "`boundary_only` must be one of True, .* got 'no'"),
        ({"sigma": -1}, ValueError, "`sigma` must be finite and greater than 0, got -1"),
        ({"taps": 4}, ValueError, "`taps` must be an odd integer of at least 1, got 4"),
        ({"passes": 0}, ValueError, "`passes` must be an integer of at least 1, got 0"),
        ({"backend": "fast"}, ValueError, "`backend` must be one of 'auto', .* got 'fast'"),
        ({"backend": "cuda"}, backends.BackendUnavailable, "'cuda' cannot run iem: "),
    ],
)
def test_refusals(change, error, message):
    with pytest.raises(error, match=message):
        iem(**{"images": X, **change})
