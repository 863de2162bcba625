"""Pictures of squares, and what `fastseg.predict` made of them."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from fastseg.predict import Settings

QUICK = Settings(size=24, iterations=2)


def square(side=24, colour=(200, 30, 30)):
    """A blue picture with a square of another colour in the middle half."""
    picture = np.full((side, side, 3), (30, 60, 200), np.uint8)
    picture[side // 4 : -side // 4, side // 4 : -side // 4] = colour
    return Image.fromarray(picture)


def load(path):
    with Image.open(path) as image:
        return np.asarray(image)


def masks(out):
    found = sorted((Path(out) / "masks").rglob("*.png"))
    return {path.relative_to(Path(out) / "masks").as_posix(): path.read_bytes() for path in found}


def table(out):
    with open(Path(out) / "results.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
