"""slic against `skimage.segmentation.slic`, whose labels it promises."""

from functools import cache

import numpy as np
import pytest
import torch
from skimage import color, data, segmentation

from benchmarks import labels
from fastseg import backends, slic

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "stereo_motorcycle")
COUNTS = (20, 100, 400, 1500, 6000)


@pytest.fixture(autouse=True)
def _native_is_built():
    if reason := backends.why_not("native"):
        pytest.skip(reason)


@cache
def photograph(name: str) -> np.ndarray:
    """uint8 (H,W,3)."""
    loaded = getattr(data, name)()
    return loaded[0] if isinstance(loaded, tuple) else loaded


@cache
def lab(name: str, step: int = 1) -> np.ndarray:
    """float32 (H,W,3)."""
    return color.rgb2lab(photograph(name)[::step, ::step] / np.float32(255))


def ours(image: np.ndarray, *args, **options) -> np.ndarray:
    """Of one image, channels last."""
    if (mask := options.get("mask")) is not None:
        options["mask"] = mask[None]
    return slic(np.moveaxis(image, -1, 0)[None], *args, **options)[0]


def theirs(image: np.ndarray, *args, **options) -> np.ndarray:
    return segmentation.slic(image, *args, **{"start_label": 0, "channel_axis": -1, **options})


def differing(image: np.ndarray, *args, **options) -> float:
    """Share of the pixels that have another label than there."""
    expected, actual = theirs(image, *args, **options), ours(image, *args, **options)
    assert actual.shape == expected.shape
    return float((actual != expected).mean())


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_in_lab(name, count):
    assert differing(lab(name), count, 0.1, convert2lab=False) == 0


@pytest.mark.parametrize("count", COUNTS)
def test_pictures_of_other_sets_in_lab(count):
    images = list(labels.pictures(labels.DATA, each=5, longest=160))
    if len(images) < 20:
        pytest.skip(f"{labels.DATA} holds too few pictures")
    line = labels.compare(images, "Lab float32", count, "native")
    assert line["pictures equal"] == len(images)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_in_rgb(name):
    """Our conversion to Lab may round otherwise, which may decide a tie."""
    image = photograph(name)[::2, ::2] / np.float32(255)
    shares = [differing(image, count) for count in COUNTS]
    assert np.mean(shares) <= 1e-4, shares


@pytest.mark.parametrize("name", ["coffee", "chelsea"])
def test_photographs_in_uint8(name):
    """scikit-image computes these in float64; where that counts a region more, all after shift."""
    image = photograph(name)[::2, ::2]
    assert np.median([differing(image, count) for count in COUNTS]) <= 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"enforce_connectivity": False},
        {"slic_zero": True},
        {"sigma": 1.5},
        {"sigma": (0.7, 2)},
        {"max_num_iter": 1},
        {"max_num_iter": 40},
        {"compactness": 1e-3},
        {"compactness": 100.0},
        {"min_size_factor": 0},
        {"min_size_factor": 2, "max_size_factor": 1.5},
        {"max_size_factor": 1.01},
        {"max_size_factor": 0.02},
        {"start_label": 1},
        {"n_segments": 1},
        {"n_segments": 10**6},
        {"n_segments": 2, "slic_zero": True, "sigma": 3},
    ],
    ids=str,
)
def test_options(options):
    options = {"n_segments": 150, "compactness": 0.2, "convert2lab": False, **options}
    assert differing(lab("chelsea", 2), **options) == 0


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
@pytest.mark.parametrize("zero", [False, True])
def test_any_number_of_channels(channels, zero):
    image = np.random.default_rng(channels).random((61, 83, channels), np.float32)
    assert differing(image, 50, 1.0, slic_zero=zero) == 0


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (1, 300), (300, 1), (2, 500), (3, 3), (16, 16), (17, 15), (40, 257)]
)
@pytest.mark.parametrize("count", [1, 5, 60])
def test_any_shape(shape, count):
    image = np.random.default_rng(0).random((*shape, 3), np.float32)
    assert differing(image, count, 0.5, convert2lab=False) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_equals_that_bounds_must_not_tell_apart(channels):
    """Few levels in blocks: centres that are exactly as near as each other, also from afar."""
    levels = np.random.default_rng(channels).integers(0, 3, (12, 16, channels))
    image = levels.repeat(8, 0).repeat(8, 1).astype(np.float32)
    for count in (6, 48, 192, 700):
        for compactness in (0.01, 1.0, 50.0):
            options = {"convert2lab": False, "enforce_connectivity": False}
            assert differing(image, count, compactness, **options) == 0


def test_flat_and_striped_images():
    """Ties everywhere: the first centre and the raster order decide."""
    flat = np.full((70, 90, 3), 0.25, np.float32)
    striped = (np.indices((70, 90)).sum(0) % 2).astype(np.float32)[..., None]
    for count in (3, 40, 700):
        assert differing(flat, count) == 0
        assert differing(striped, count, 0.01) == 0


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("count", [2, 7, 60, 400])
def test_masks(count, zero):
    image = lab("chelsea", 3)
    y, x = np.indices(image.shape[:2])
    disc = (y - 40) ** 2 + (x - 60) ** 2 < 35**2
    two = disc | (x > 110)
    for mask in (disc, two, np.random.default_rng(0).random(disc.shape) < 0.3):
        for start in (0, 1):
            options = {"mask": mask, "slic_zero": zero, "start_label": start}
            assert differing(image, count, 0.1, convert2lab=False, **options) == 0


def test_masks_hide_what_they_cover():
    image = lab("coffee", 4).copy()
    mask = np.indices(image.shape[:2])[0] > 20
    image[~mask] = np.nan
    assert differing(image, 50, 0.1, mask=mask, convert2lab=False) == 0
    image[~mask] = 1e6
    assert differing(image, 50, 0.1, mask=mask, convert2lab=False, sigma=1) == 0


def test_large_sums_round_as_there():
    """Beyond 2²⁴ the sums of positions round."""
    image = np.zeros((40, 40000, 1), np.float32)
    image[:, 20000:] = np.linspace(0, 1, 20000, dtype=np.float32)[:, None]
    assert differing(image, 12, 0.1) == 0


def test_many_threads_on_one_large_image():
    image = np.tile(lab("astronaut"), (2, 1, 1))
    chosen = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert differing(image, 300, 0.1, convert2lab=False) == 0
    finally:
        torch.set_num_threads(chosen)
