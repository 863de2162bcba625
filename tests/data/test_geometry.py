"""Pictures brought to one size: `fastseg.data.geometry`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastseg.data import Geometry
from fastseg.data.geometry import Window, resize_image, resize_labels

PICTURE = np.arange(12).reshape(3, 4)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(1, 1, (2, 2)), [[5, 6], [9, 10]]),
        (Window(1, 1, (2, 2), mirrored=True), [[6, 5], [10, 9]]),
        (Window(-1, 2, (2, 4)), [[-1] * 4, [2, 3, -1, -1]]),
        (Window(2, -1, (2, 2), mirrored=True), [[8, -1], [-1, -1]]),
        (Window(-1, -1, (4, 6)),
         [[-1] * 6, [-1, 0, 1, 2, 3, -1], [-1, 4, 5, 6, 7, -1], [-1, 8, 9, 10, 11, -1]]),
    ],
)  # fmt: skip
def test_window_cuts_and_fills(window, expected):
    assert window.cut(PICTURE, -1).tolist() == expected
    assert window.cut(np.stack([PICTURE] * 2, -1), -1)[..., 1].tolist() == expected


def test_centre():
    geometry = Geometry((2, 6))
    assert geometry.window(5, 4, None) == Window(1, -1, (2, 6))
    assert Geometry().window(5, 4, None) == Window(0, 0, (5, 4))


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99)
)
def test_cuts_at_random_hold_as_much_as_fits(height, width, rows, columns, seed):
    window = Geometry((rows, columns)).window(height, width, np.random.default_rng(seed))
    valid = window.cut(np.ones((height, width), bool), False)
    assert valid.shape == (rows, columns)
    assert valid.sum() == min(height, rows) * min(width, columns)


def test_every_cut_is_as_likely():
    random = np.random.default_rng(0)
    windows = [Geometry((2, 3)).window(4, 3, random) for _ in range(3000)]
    counts = np.bincount([window.top for window in windows])
    assert counts.tolist() == pytest.approx([1000] * 3, rel=0.1)
    assert sum(window.mirrored for window in windows) == pytest.approx(1500, rel=0.1)
    still = Geometry((2, 3), flip=False)
    assert not any(still.window(4, 3, random).mirrored for _ in range(50))


def test_sizes_before_the_cut():
    assert Geometry(scale=1 / 3).resized(480, 640) == (160, 213)
    assert Geometry(short=192).resized(200, 200) == (192, 192)
    assert Geometry(short=128).resized(500, 333) == (192, 128)
    assert Geometry(scale=0.01).resized(10, 300) == (1, 3)
    assert [Geometry(multiple=16).rounded(side) for side in (1, 16, 17)] == [16, 16, 32]
    assert Geometry(64).shape == (64, 64)
    assert Geometry([3, 4]).shape == (3, 4)  # type: ignore[arg-type]  # as a YAML file has it
    assert Geometry().shape is None


def test_labels_are_resampled_to_the_nearest():
    labels = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]], np.int16)
    assert resize_labels(labels, 1, 1).tolist() == [[4]]
    assert resize_labels(labels, 6, 3).tolist() == np.repeat(labels, 2, 0).tolist()
    assert resize_labels(labels, 3, 3) is labels


def test_channels_are_resampled_alone():
    """The fourth weighs nothing, as transparency would."""
    image = np.zeros((4, 4, 4), np.uint8)
    image[..., 0], image[:2, :, 3], image[:, 2:, 1] = 200, 255, 100
    half = resize_image(image, 2, 2)
    assert (half[..., 0] == 200).all()
    assert (half[..., 2] == 0).all()
    assert half[:, 0, 1].max() < half[:, 1, 1].min()
    alone = [resize_image(image[..., c : c + 1], 2, 2)[..., 0] for c in range(4)]
    assert (half == np.stack(alone, -1)).all()
    assert resize_image(image, 4, 4) is image


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0}, ValueError, "`size` must be an integer of at least 1, got 0"),
        ({"size": (1, 2, 3)}, ValueError, "`size` must be a sequence of 2 integers, got 3"),
        ({"size": (4.5, 4)}, TypeError, "`size` must be an integer, got float"),
        ({"scale": 0}, ValueError, "`scale` must be finite and greater than 0, got 0"),
        ({"short": 0}, ValueError, "`short` must be an integer of at least 1, got 0"),
        ({"short": 64, "scale": 0.5}, ValueError, "exclude each other, got 0.5 and 64"),
        ({"multiple": 0}, ValueError, "`multiple` must be an integer of at least 1, got 0"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        Geometry(**options)
