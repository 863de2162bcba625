"""IEM's native kernel against the float64 reference: photographs, every option, every shape."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.images import image_a_thread, photographs
from fastseg import IEMStatus, iem
from fastseg.ops.inpaint import _reference

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned", "native")

AUTHORS = (5.0, 11, 2)
# A gradient is rounded by less, in units of 1/(pixels of the smaller layer); a boundary pixel's is
# about 10 of them.
BAND = 1e-4


def exact(images, *arguments, **options):
    """The reference on the same pixels in float64."""
    pixels = images.double() / 255
    return iem(pixels, *arguments, backend="reference", **options)


def assert_same_run(images, *arguments, **options):
    actual = iem(images, *arguments, backend="native", **options)
    expected = exact(images, *arguments, **options)
    assert torch.equal(actual.masks, expected.masks)
    assert torch.equal(actual.steps, expected.steps)
    assert torch.equal(actual.status, expected.status)
    assert torch.allclose(actual.error, expected.error, rtol=1e-5, atol=1e-6)
    return actual


@pytest.mark.parametrize(("count", "size"), [(6, 64), (4, 128)])
def test_whole_runs_on_photographs(count, size):
    images = photographs(count, size)
    actual = iem(images, 78, backend="native")

    def run(image):
        found = exact(image, 78)
        numbers = torch.stack([found.error.double(), found.steps.double(), found.status.double()])
        return torch.cat([found.masks.double().flatten(1), numbers.T], 1)

    torch.set_num_threads(2)  # of the reference's, one an image
    found = image_a_thread(run, images)
    masks = found[:, :-3].view(count, 1, size, size) == 1
    error, steps, status = found[:, -3:].T
    assert (actual.masks == masks).double().mean() >= 0.999
    same = (actual.masks == masks).all((1, 2, 3))
    assert same.sum() >= count - 1
    assert torch.allclose(actual.error.double()[same], error[same], rtol=1e-5, atol=0)
    assert torch.equal(actual.status.double()[same], status[same])
    # A pixel on the way that rounding turns may delay the end.
    assert (actual.steps - steps)[same].abs().max() <= 2


def test_first_updates_one_by_one():
    """Where an update differs from the exact one, rounding decides an exact gradient nearby."""
    images = photographs(3, 128)
    x = images.double() / 255 * 2 - 1
    torch.set_num_threads(2)
    mask = iem(images, 78, 0, backend="native").masks
    for step in range(20):
        result = iem(images, 78, step + 1, backend="native")
        assert (result.status == IEMStatus.EXHAUSTED).all()
        gradient = image_a_thread(
            lambda x, mask: _reference.gradient(x, mask, 0.001, *AUTHORS), x, mask
        )
        boundary = _reference.boundary(mask)
        exact = _reference.smooth(torch.where(boundary, gradient > 0, mask), "authors")
        count = mask.sum((1, 2, 3), keepdim=True)
        near_zero = gradient.abs() * torch.minimum(count, 128 * 128 - count) < BAND
        unsure = boundary & near_zero
        assert unsure.sum() <= 1e-3 * boundary.sum()
        explained = F.max_pool2d(unsure.float(), 3, 1, 1) > 0
        assert (result.masks == exact)[~explained].all(), f"update {step + 1}"
        mask = result.masks


@pytest.mark.parametrize(
    "options",
    [
        {"lamb": 0},
        {"lamb": 0.1},
        {"smoothing": "none"},
        {"smoothing": "paper"},
        {"boundary_only": False},
        {"boundary_only": False, "smoothing": "none"},
        {"taps": 21, "passes": 1},
        {"taps": 3, "passes": 1},
        {"taps": 1, "passes": 3},
        {"sigma": 4.0},
        {"sigma": 40.0},
        {"taps": 101},
        {"init": (20, 60, 110)},
        {"init": 1},
        {"init": 128},
        {"init": 500},
        {"iterations": 0},
    ],
    ids=str,
)
def test_every_option(options):
    assert_same_run(photographs(2, 48), **{"init": 78, "iterations": 12, **options})


@pytest.mark.parametrize("sigma", [0.5, 1.5, 2.5])
def test_steep_kernels_up_to_the_units_of_the_sums(sigma):
    """K falls below the 2⁻²⁹ that the kernel counts in before its reach ends."""
    images = photographs(4, 96)
    actual, expected = iem(images, 78, 40, sigma=sigma), exact(images, 78, 40, sigma=sigma)
    assert (actual.masks == expected.masks).double().mean() >= 0.998
    assert torch.allclose(actual.error, expected.error, rtol=0.01)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels(channels):
    images = torch.cat([photographs(4, 48).view(1, 12, 48, 48)], 1)[:, :channels]
    assert_same_run(images, 78, 12)


@pytest.mark.parametrize(
    "size",
    [(1, 1), (1, 40), (40, 1), (2, 3), (2, 2), (5, 5), (30, 63), (30, 64), (30, 65), (21, 129),
     (200, 17)],
)  # fmt: skip
def test_any_size(size):
    height, width = size
    images = photographs(2, 200)[..., 50 - height // 4 :, 20:][..., :height, :width]
    assert images.shape[2:] == size
    assert_same_run(images, 78, 12)


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_every_instruction_set(channels, native):
    images = photographs(4, 72).view(1, 12, 72, 72)[:, :channels, :51]
    for isa in native.isas():
        native.set_isa(isa)
        assert native.isa() == isa
        for options in ({}, {"boundary_only": False, "smoothing": "paper"}):
            assert_same_run(images, 78, 12, **options)


def test_flat_stripes_and_noise():
    """Steep edges, exact ties, and pixels without any likeness to their neighbours."""
    noise = torch.randint(0, 256, (4, 3, 40, 50), generator=torch.Generator().manual_seed(0))
    half, stripes = torch.full((2, 1, 3, 40, 50), 20)
    half[..., 25:] = 230
    stripes[..., ::2, :] = 230
    assert_same_run(torch.cat([noise, half, stripes]).byte(), 70, 15)
