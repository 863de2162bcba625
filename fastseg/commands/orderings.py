"""`fastseg orderings`."""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..orderings import ALL, RASTER, attention_mask, permutation, ranks
from .common import OK, UsageError, count

__all__ = ["add_to", "picture"]

PANEL, GAP, TITLE, COLUMNS = 176, 18, 26, 4  # pixels, and pairs of panels in a row
FINER = 2  # drawn so many times as large, then reduced: smooth lines
EARLY, LATE = np.array((254, 246, 224)), np.array((38, 84, 124))
INK, PAPER, HIDDEN = (28, 32, 36), (252, 252, 253), (224, 225, 230)
MOST = 24  # pixels a side; beyond, a panel shows nothing


def add_to(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    add = commands.add_parser("orderings", help="draw the sixteen orderings of AC and their masks")
    add.add_argument("-o", "--out", required=True, metavar="FILE.png", help="the picture to write")
    add.add_argument("--height", type=count, default=5, metavar="H",
        help=f"rows of the grid, at most {MOST} (default: 5)")  # fmt: skip
    add.add_argument("--width", type=count, default=5, metavar="W",
        help=f"columns of the grid, at most {MOST} (default: 5)")  # fmt: skip
    add.set_defaults(run=_orderings)


def _orderings(arguments: argparse.Namespace) -> int:
    if max(arguments.height, arguments.width) > MOST:
        raise UsageError(f"the grid must be at most {MOST}×{MOST}, "
                         f"got {arguments.height}×{arguments.width}")  # fmt: skip
    try:
        picture(arguments.height, arguments.width).save(Path(arguments.out))
    except (ValueError, OSError) as error:  # ValueError: a suffix that Pillow does not know
        raise UsageError(error) from error
    print(f"16 orderings drawn: {arguments.out}", file=sys.stderr)
    return OK


def picture(height: int = 5, width: int = 5) -> Image.Image:
    """Every ordering of a grid: on the left its path, from light to dark; on the right its mask,
    row i what pixel i sees, and framed the row of the pixel in the middle."""
    cell = FINER * (2 * PANEL + 2 * GAP), FINER * (PANEL + TITLE + GAP)
    rows = -(-len(ALL) // COLUMNS)
    size = COLUMNS * cell[0] + FINER * GAP, rows * cell[1] + FINER * GAP
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FINER * 14)
    for i, ordering in enumerate(ALL):
        x, y = FINER * GAP + i % COLUMNS * cell[0], FINER * GAP + i // COLUMNS * cell[1]
        kind = "raster" if ordering in RASTER else "zigzag"
        draw.text((x, y), f"{ordering}  {kind}", INK, font)
        y += FINER * TITLE
        _draw_path(draw, (x, y), height, width, ordering)
        _draw_mask(sheet, (x + FINER * (PANEL + GAP // 2), y), height, width, ordering)
    return sheet.resize((size[0] // FINER, size[1] // FINER), Image.Resampling.BOX)


def _draw_path(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], height: int, width: int, ordering: int
) -> None:
    side = FINER * PANEL / max(height, width)
    share = ranks(height, width, ordering).double().div(max(height * width - 1, 1)).numpy()
    for (row, column), t in np.ndenumerate(share):
        x, y = corner[0] + column * side, corner[1] + row * side
        colour = tuple(int(c) for c in EARLY + t * (LATE - EARLY))
        draw.rectangle((x, y, x + side - FINER, y + side - FINER), colour)
    order = permutation(height, width, ordering)
    middles = (torch.stack((order % width, order // width), 1) + 0.5) * side + torch.tensor(corner)
    points = [tuple(p) for p in middles.tolist()]
    heavy = max(FINER, round(side / 24))
    draw.line(points, (214, 73, 51), heavy, joint="curve")
    for at, filled in ((points[0], True), (points[-1], False)):
        colours = ((214, 73, 51), (214, 73, 51)) if filled else (PAPER, (214, 73, 51))
        draw.circle(at, side / 7, *colours, width=heavy)


def _draw_mask(
    sheet: Image.Image, corner: tuple[int, int], height: int, width: int, ordering: int
) -> None:
    mask = attention_mask(height, width, ordering).numpy()[..., None]
    image = Image.fromarray(np.where(mask, LATE, HIDDEN).astype(np.uint8))
    side = FINER * PANEL
    sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), corner)
    middle, step = height // 2 * width + width // 2, side / (height * width)
    x, y = corner
    frame = (x, y + middle * step, x + side - 1, y + (middle + 1) * step)
    ImageDraw.Draw(sheet).rectangle(frame, outline=(214, 73, 51), width=FINER)
