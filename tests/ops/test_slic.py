"""slic: values by hand, what holds for any image, layouts, threads, bad input."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import slic

pytestmark = pytest.mark.usefixtures("poisoned")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random images with regions in them."""
    small = random(*shape[:2], 6, 6, seed=seed)
    large = torch.nn.functional.interpolate(small, shape[2:], mode="bicubic").clamp(0, 1)
    return large + 0.02 * random(*shape, seed=seed + 1)


def one(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)[None, None]


# --- By hand -----------------------------------------------------------------------------------


def test_quadrants_by_hand(backend):
    """Four colours in a 6×6 image, and 4 centres at rows and columns 1 and 4 of the grid."""
    image = one([[0, 3], [6, 9]]).repeat_interleave(3, 2).repeat_interleave(3, 3)
    labels = slic(image, 4, 0.1, enforce_connectivity=False, backend=backend)
    expected = torch.tensor([[0, 1], [2, 3]]).repeat_interleave(3, 0).repeat_interleave(3, 1)
    assert labels.tolist() == [expected.tolist()]
    assert labels.dtype == torch.int32


def test_first_of_equals_by_hand(backend):
    """Flat 1×8 image, 2 centres at 2 and 6: column 4 is 2 from both and goes to the first."""
    line = torch.zeros(1, 1, 1, 8)
    for rounds, expected in ((1, [0, 0, 0, 0, 0, 1, 1, 1]), (2, [0, 0, 0, 0, 0, 1, 1, 1])):
        labels = slic(line, 2, max_num_iter=rounds, backend=backend)
        assert labels.flatten().tolist() == expected
    # Then the centres are 2 and 6 again: a fixed point.


def test_connectivity_by_hand(backend):
    """One centre: a region of 12 pixels is cut in two by at most 8, and of its parts the one with
    fewer than 6 joins the region that its flood has met."""
    image = torch.zeros(1, 1, 3, 4)

    def labels(least, most):
        sizes = {"min_size_factor": least / 12, "max_size_factor": most / 12}
        return slic(image, 1, **sizes, backend=backend)[0].tolist()

    assert labels(0, 12) == [[0] * 4] * 3
    # From the corner, right before left, down and up: 8 pixels.
    cut = [[0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 1, 1]]
    assert labels(0, 8) == cut
    assert labels(4, 8) == cut
    assert labels(5, 8) == [[0] * 4] * 3


def test_mask_by_hand(backend):
    image = one([[0, 0, 9, 9, 9, 9], [0, 0, 9, 9, 9, 9]])
    mask = torch.tensor([[[1, 1, 0, 0, 1, 1]] * 2]).bool()
    expected = [[0, 0, -1, -1, 1, 1]] * 2
    labels = slic(image, 2, mask=mask, backend=backend)
    assert labels[0].tolist() == expected
    labels = slic(image, 2, mask=mask, start_label=1, backend=backend)
    assert (labels[0] - 1).tolist() == expected
    whole = slic(image, 1, mask=mask, enforce_connectivity=False, backend=backend)
    assert torch.equal(whole, mask.int() - 1)
    assert slic(image, 2, mask=torch.zeros_like(mask), backend=backend).unique().tolist() == [-1]


def test_a_mask_an_image(backend):
    images = smooth(3, 3, 20, 30)
    masks = random(3, 20, 30, seed=1) > torch.tensor([0.2, 0.9, 2]).view(3, 1, 1)
    together = slic(images, 12, mask=masks, backend=backend)
    for i in range(3):
        alone = slic(images[i : i + 1], 12, mask=masks[i : i + 1], backend=backend)
        assert torch.equal(together[i : i + 1], alone)


# --- Of any image ------------------------------------------------------------------------------

OPTIONS = st.fixed_dictionaries(
    {
        "n_segments": st.integers(1, 60),
        "compactness": st.sampled_from([0.05, 1.0, 30.0]),
        "max_num_iter": st.integers(1, 6),
        "sigma": st.sampled_from([0, 1.2]),
        "slic_zero": st.booleans(),
        "enforce_connectivity": st.booleans(),
        "min_size_factor": st.sampled_from([0, 0.5, 2.0]),
        "max_size_factor": st.sampled_from([0.4, 3]),
    }
)


@given(
    st.integers(0, 2**31),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 2, 3]),
    st.booleans(),
    OPTIONS,
)
def test_native_equals_the_definition(seed, height, width, channels, masked, options):
    pytest.importorskip("fastseg._native", exc_type=ImportError)
    images = smooth(1, channels, height, width, seed=seed)
    mask = random(1, height, width, seed=seed) > 0.3 if masked else None
    options |= {"convert2lab": False, "mask": mask}
    expected = slic(images, **options, backend="reference")
    assert torch.equal(slic(images, **options, backend="native"), expected)


@pytest.mark.parametrize("sigma", [0, 1])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_native_converts_as_the_definition(dtype, sigma):
    pytest.importorskip("fastseg._native", exc_type=ImportError)
    images = smooth(2, 3, 40, 50).clamp(0, 1)
    images = (images * 255).byte() if dtype == torch.uint8 else images
    expected, actual = (
        slic(images, 20, sigma=sigma, backend=name) for name in ("reference", "native")
    )
    assert (expected != actual).double().mean() <= 1e-3


def test_on_every_instruction_set(native):
    images = smooth(1, 3, 61, 75)
    expected = slic(images, 40, 0.2, convert2lab=False, backend="reference")
    for isa in native.isas():
        native.set_isa(isa)
        assert torch.equal(slic(images, 40, 0.2, convert2lab=False, backend="native"), expected)
        assert torch.equal(slic(images, 40, backend="native"), slic(images, 40))


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 30), st.integers(1, 40))
def test_labels_count_up_and_are_connected(seed, height, width, count):
    labels = slic(smooth(1, 3, height, width, seed=seed), count, max_size_factor=1e4)[0].numpy()
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    firsts = [np.flatnonzero(labels == k)[0] for k in range(labels.max() + 1)]
    assert firsts == sorted(firsts)  # numbered in raster order
    for k in range(labels.max() + 1):
        assert is_connected(labels == k)


def is_connected(region: np.ndarray) -> bool:
    seen = np.zeros_like(region)
    seen.flat[np.flatnonzero(region)[0]] = True
    while True:
        grown = seen.copy()
        grown[1:] |= seen[:-1]
        grown[:-1] |= seen[1:]
        grown[:, 1:] |= seen[:, :-1]
        grown[:, :-1] |= seen[:, 1:]
        grown &= region
        if np.array_equal(grown, seen):
            return bool(np.array_equal(seen, region))
        seen = grown


@given(st.integers(0, 2**31), st.integers(-8, 8))
def test_scale_of_the_values_does_not_matter(seed, exponent):
    images = smooth(1, 2, 25, 31, seed=seed)
    assert torch.equal(slic(images, 9), slic(images * 2.0**exponent, 9))


def test_every_count_of_channels_and_dtype(backend):
    for channels in (1, 2, 3, 5):
        images = smooth(1, channels, 17, 23).half().double()
        expected = slic(images.float(), 9, 0.5, backend=backend)
        for dtype in (torch.float64, torch.float16):
            labels = slic(images.to(dtype), 9, 0.5, backend=backend)
            assert torch.equal(labels, expected)
    levels = (smooth(1, 1, 17, 23) * 255).byte()
    levels[0, 0, 0, :2] = torch.tensor([0, 255])
    bytes_and_floats = slic(levels, 9, backend=backend), slic(levels.float(), 9, backend=backend)
    assert torch.equal(*bytes_and_floats)


# --- Batches, layouts, threads -----------------------------------------------------------------


def test_an_image_is_as_alone_in_any_batch_and_layout(backend):
    images = smooth(3, 3, 20, 33)
    expected = slic(images, 15, backend=backend)
    for i in range(3):
        assert torch.equal(slic(images[i : i + 1], 15, backend=backend)[0], expected[i])
    wide = torch.stack([images, -images], -1)[..., 0]
    for other in (images.to(memory_format=torch.channels_last), images.mT.contiguous().mT, wide):
        assert not other.is_contiguous()
        assert torch.equal(slic(other, 15, backend=backend), expected)
    labels = slic(images.numpy(), 15, backend=backend)
    assert isinstance(labels, np.ndarray)
    assert np.array_equal(labels, expected.numpy())


@pytest.mark.parametrize(
    "shape", [(5, 3, 40, 41), (1, 3, 130, 127), (1, 3, 520, 530), (2, 1, 600, 500)]
)
def test_same_labels_for_any_number_of_threads(shape, threads):
    """Images are shared among threads, and the rows of large ones where images are few."""
    images = smooth(*shape)
    mask = random(shape[0], *shape[2:]) > 0.1
    results = []
    for count in threads:
        torch.set_num_threads(count)
        plain, zero = slic(images, 60), slic(images, 60, slic_zero=True, max_num_iter=3)
        results.append((plain, zero, slic(images, 20, mask=mask, max_num_iter=3)))
    for other in results[1:]:
        assert all(map(torch.equal, other, results[0]))


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_of_nothing(shape, backend):
    labels = slic(torch.zeros(shape), backend=backend)
    assert labels.shape == (shape[0], *shape[2:])
    assert labels.dtype == torch.int32


def test_is_a_sound_operator(backend):
    images, mask = smooth(1, 3, 7, 9), random(1, 7, 9) > 0.2
    limits = (4, 0.5, 2, [0.0, 0.0], True, True, 0.5, 3.0, False, 0, backend)
    for view in (images, images.mT.contiguous().mT, images.to(memory_format=torch.channels_last)):
        for known in (None, mask):
            torch.library.opcheck(torch.ops.fastseg.slic.default, (view, known, *limits))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_compiles_whole(backend):
    images = smooth(1, 3, 21, 22)
    compiled = torch.compile(
        lambda x: slic(x, 9, backend=backend) + 1, fullgraph=True, backend="aot_eager"
    )
    assert torch.equal(compiled(images), slic(images, 9, backend=backend) + 1)


def test_gradients_do_not_flow():
    assert not slic(smooth(1, 1, 9, 9).requires_grad_(), 4).requires_grad


# --- Bad input ---------------------------------------------------------------------------------

X = torch.zeros(2, 3, 5, 6)
M = torch.ones(2, 5, 6, dtype=torch.bool)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": [[1]]}, TypeError, "`images` must be a torch.Tensor, .* got list"),
        ({"images": X[0]}, ValueError, r"`images` must have 4 dimensions .* got .*\(3, 5, 6\)"),
        ({"images": X.int()}, TypeError, "`images` must be uint8 or float32 .* got int32"),
        ({"images": X[:, :0]}, ValueError, "`images` must have at least one channel"),
        ({"images": X / 0}, ValueError, "`images` must be finite .* got nan … nan in image 0"),
        (
            {"images": X + torch.tensor([0, math.inf]).view(2, 1, 1, 1)},
            ValueError,
            "`images` must be finite .* got inf … inf in image 1",
        ),
        ({"n_segments": 0}, ValueError, "`n_segments` must be an integer of at least 1, got 0"),
        ({"n_segments": 2.0}, TypeError, "`n_segments` must be an integer, got float"),
        ({"compactness": 0}, ValueError, "`compactness` must be finite and greater than 0, got 0"),
        ({"max_num_iter": 0}, ValueError, "`max_num_iter` must be an integer of at least 1"),
        ({"sigma": -1}, ValueError, "`sigma` must be finite and at least 0, got -1"),
        ({"sigma": (1, 2, 3)}, ValueError, "`sigma` must be one number or two, got 3"),
        ({"sigma": "1"}, TypeError, "`sigma` must be a number, got str"),
        ({"convert2lab": 3}, ValueError, "`convert2lab` must be one of None, True, False, got 3"),
        (
            {"images": X[:, :2], "convert2lab": True},
            ValueError,
            "`images` must have 3 channels where `convert2lab` is True, got 2",
        ),
        ({"enforce_connectivity": None}, ValueError, "`enforce_connectivity` must be one of True"),
        ({"min_size_factor": -1}, ValueError, "`min_size_factor` must be finite and at least 0"),
        ({"max_size_factor": math.inf}, ValueError, "`max_size_factor` must be finite"),
        ({"slic_zero": "no"}, ValueError, "`slic_zero` must be one of True, False, got 'no'"),
        ({"start_label": 2}, ValueError, "`start_label` must be one of 0, 1, got 2"),
        ({"mask": M[0]}, ValueError, r"`mask` must have 3 dimensions \(B, H, W\)"),
        ({"mask": M.byte()}, TypeError, "`mask` must be bool, got uint8"),
        ({"mask": M[:1]}, ValueError, r"`mask` must have shape \(2, 5, 6\), got \(1, 5, 6\)"),
        ({"mask": M.to("meta")}, ValueError, "`mask` must be on the device of `images`"),
        ({"backend": "gpu"}, ValueError, "`backend` must be one of 'auto', .* got 'gpu'"),
    ],
)
def test_what_it_refuses(change: dict[str, Any], error, message):
    with pytest.raises(error, match=message):
        slic(**{"images": X, **change})


@pytest.mark.parametrize("at", [0, 2**18 - 1, 2**18, 599 * 701 - 1])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_finds_what_is_not_finite_anywhere(at, value, backend):
    """In any of the parts that the threads look through, and at their ends."""
    image = random(1, 1, 599, 701)
    image.view(-1)[at] = value
    with pytest.raises(ValueError, match=r"`images` must be finite .* in image 0"):
        slic(image, backend=backend)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_extremes_of_any_layout(dtype):
    kernel = pytest.importorskip("fastseg.ops.slic._native", exc_type=ImportError)
    for shape in ((3, 2, 5, 7), (1, 3, 1, 1), (2, 3, 400, 301)):
        images = (random(*shape) * 250).to(dtype)
        for view in (images, images.to(memory_format=torch.channels_last), images[..., ::3]):
            least, most = kernel.extremes(view)
            assert least.tolist() == view.amin((1, 2, 3)).tolist()
            assert most.tolist() == view.amax((1, 2, 3)).tolist()


def test_values_outside_the_mask_may_be_anything(backend):
    images = smooth(1, 3, 12, 13)
    mask = random(1, 12, 13) > 0.3
    spoilt = torch.where(
        mask[:, None], images, torch.tensor([torch.nan, torch.inf, -9]).view(3, 1, 1)
    )
    expected = slic(images, 6, mask=mask, backend=backend)
    assert torch.equal(slic(spoilt, 6, mask=mask, backend=backend), expected)
