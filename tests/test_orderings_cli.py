"""fastseg orderings."""

import numpy as np
import pytest
from PIL import Image

from fastseg.cli import main
from fastseg.commands.orderings import COLUMNS, GAP, LATE, PANEL, TITLE, picture
from fastseg.orderings import ALL, attention_mask


def panels(sheet, i):
    """The path and the mask of the i-th ordering."""
    x = GAP + i % COLUMNS * (2 * PANEL + 2 * GAP)
    y = GAP + TITLE + i // COLUMNS * (PANEL + TITLE + GAP)
    second = x + PANEL + GAP // 2
    path, mask = (sheet.crop((left, y, left + PANEL, y + PANEL)) for left in (x, second))
    return np.asarray(path).astype(int), np.asarray(mask).astype(int)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (2, 4), (4, 1)])
def test_masks_are_drawn(height, width):
    sheet = picture(height, width)
    count = height * width
    middles = ((np.arange(count) + 0.5) * PANEL / count).astype(int)
    for i, ordering in enumerate(ALL):
        mask = panels(sheet, i)[1][middles][:, middles]
        dark = np.abs(mask - LATE).max(2) < 3
        assert np.array_equal(dark, attention_mask(height, width, ordering).numpy()), ordering


def test_paths_start_in_a_full_and_end_in_an_empty_circle():
    path = panels(picture(2, 2), 0)[0]
    quarter = PANEL // 4
    assert path[quarter, quarter].tolist() == [214, 73, 51]
    assert (path[3 * quarter, 3 * quarter] > 250).all()


def test_one_pixel_can_be_drawn():
    assert np.abs(panels(picture(1, 1), 5)[1][PANEL // 2, PANEL // 2] - LATE).max() < 3


def test_the_command_writes_a_picture(tmp_path, capsys):
    file = tmp_path / "orderings.png"
    assert main(["orderings", "-o", str(file), "--height", "3", "--width", "4"]) == 0
    assert capsys.readouterr().err == f"16 orderings drawn: {file}\n"
    with Image.open(file) as written:
        assert np.array_equal(np.asarray(written), np.asarray(picture(3, 4)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--width", "25"], "the grid must be at most 24×24, got 5×25"),
        (["-o", "nowhere/at/all.png"], "nowhere/at/all.png"),
        (["-o", "orderings.xyz"], "unknown file extension: .xyz"),
    ],
)
def test_bad_usage(tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["orderings", "-o", "orderings.png", *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
