"""Fruits: pictures that colour clustering cannot segment, drawn as they are asked for."""

from collections.abc import Callable, Sequence

import numpy as np

from .base import Dataset, Sample
from .geometry import Geometry

__all__ = ["Fruits"]

SIDE = 64
SPLITS = {"train": (0, 10_000), "val": (10_000, 1_500), "test": (11_500, 1_500), "all": (0, 13_000)}

Colours = np.ndarray  #: (…,3) float, 0 … 255
Drawn = tuple[np.ndarray, Colours]  #: distance from the outline, negative inside, and colours


class Fruits(Dataset):
    """An apple, a lemon and a blueberry before a sky, 64×64.

    The sky is the same in each picture and of many colours, from deep blue to orange. The fruits
    lie anywhere, turned anyhow, one before another, and always look the same. So what belongs
    together is what occurs together, not what has one colour (the synthetic set of the paper on
    CIRS, §5.1.1). Samples are drawn from `seed` and their number alone: 10,000 to train, 1,500 each
    for validation and test.
    """

    classes = ("sky", "apple", "lemon", "blueberry")
    channels = 3
    geometry = Geometry(SIDE)

    def __init__(self, split: str = "train", seed: int = 0) -> None:
        self.first, self.count = SPLITS[split]
        self.seed = seed
        self.sky = _sky(np.random.default_rng((seed, 0)))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        number = self.first + index
        random = np.random.default_rng((self.seed, 1, number))
        colours, labels = self.sky.copy(), np.zeros((SIDE, SIDE), np.int16)
        for fruit in random.permutation(len(FRUITS)):
            draw, reach = FRUITS[fruit]
            centre = random.uniform(reach, SIDE - 1 - reach, 2)  # no fruit is cut off
            rows, columns = (slice(int(c - reach), int(c + reach) + 2) for c in centre)
            x, y = _turned(rows, columns, centre, random.uniform(0, 2 * np.pi))
            distance, paint = draw(x, y)
            cover = np.clip(0.5 - distance, 0, 1)[..., None]
            colours[rows, columns] += cover * (paint - colours[rows, columns])
            labels[rows, columns][distance <= 0] = fruit + 1
        return Sample(f"{self.seed}/{number:05d}", _to_bytes(colours), labels)


def _to_bytes(colours: Colours) -> np.ndarray:
    return np.clip(np.rint(colours), 0, 255).astype(np.uint8)


def _turned(
    rows: slice, columns: slice, centre: np.ndarray, angle: float
) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's position, x and y, as an object at `centre`, turned by `angle`, has it."""
    y, x = np.mgrid[rows, columns] - centre.reshape(2, 1, 1)
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _noise(random: np.random.Generator, cells: int) -> np.ndarray:
    """(SIDE,SIDE) smooth noise, −1 … 1, of so many cells a side."""
    values = random.uniform(-1, 1, (cells + 1, cells + 1))
    at = np.linspace(0, cells, SIDE, endpoint=False)
    cell, part = at.astype(int), at % 1
    part = part * part * (3 - 2 * part)
    rows = values[cell] + part[:, None] * (values[cell + 1] - values[cell])
    return rows[:, cell] + part * (rows[:, cell + 1] - rows[:, cell])


def _sky(random: np.random.Generator) -> Colours:
    """Evening: from night blue to orange, with clouds lit from below."""
    heights = (0.0, 0.3, 0.55, 0.8, 1.0)
    stops = np.array(
        [(18, 30, 84), (52, 110, 196), (150, 190, 226), (250, 196, 120), (226, 96, 52)], float
    )
    turbulence = sum(_noise(random, cells) * 2 / cells for cells in (2, 4, 8))
    at = np.clip(np.linspace(0, 1, SIDE)[:, None] + 0.12 * turbulence, 0, 1)
    sky = np.stack([np.interp(at, heights, stops[:, c]) for c in range(3)], -1)
    cloud = sum(_noise(random, cells) * 4 / cells for cells in (4, 8, 16))
    cover = np.clip(1.2 * cloud - 0.1, 0, 0.9)[..., None]
    light = np.stack(
        [np.interp(at, (0, 1), ends) for ends in ((96, 255), (104, 214), (140, 190))], -1
    )
    return sky + cover * (light - sky) + random.normal(0, 4, (SIDE, SIDE, 1))


def _shaded(x: np.ndarray, y: np.ndarray, size: float, colour: Sequence[float]) -> Colours:
    """A round body of one colour, lit from its upper left, with a highlight."""
    light = 1.05 - 0.5 * ((x + 0.4 * size) ** 2 + (y + 0.4 * size) ** 2) / (2.2 * size) ** 2
    gleam = np.exp(-((x + 0.4 * size) ** 2 + (y + 0.4 * size) ** 2) / (0.2 * size) ** 2)
    paint = light[..., None] * np.array(colour, float)
    return paint + 0.7 * gleam[..., None] * (255 - paint)


def _apple(x: np.ndarray, y: np.ndarray) -> Drawn:
    """Red, with a dent at the top and a stem in it."""
    size = 11.0
    angle = np.arctan2(x, -y)  # 0 at the top
    outline = size * (1 - 0.22 * np.exp(-((angle / 0.35) ** 2)) + 0.04 * np.cos(2 * angle))
    paint = _shaded(x, y, size, (206, 24, 36))
    stem = np.maximum(abs(x - 0.1 * (y + size)) - 1.1, abs(y + 0.95 * size) - 3.5)
    wood = np.clip(0.5 - stem, 0, 1)[..., None]
    paint += wood * (np.array((92, 60, 24.0)) - paint)
    return np.minimum(np.hypot(x, y) - outline, stem), paint


def _lemon(x: np.ndarray, y: np.ndarray) -> Drawn:
    """Yellow, longer than wide, with a tip at either end."""
    body = (np.sqrt((x / 11) ** 2 + (y / 8) ** 2) - 1) * 8
    tips = np.hypot(np.maximum(abs(x) - 11, 0) * 1.0, y) - 2.6 + np.maximum(9 - abs(x), 0)
    return np.minimum(body, tips), _shaded(x, y, 9, (246, 214, 44))


def _blueberry(x: np.ndarray, y: np.ndarray) -> Drawn:
    """Dark blue, with a darker star at the top."""
    size = 7.5
    paint = _shaded(x, y, size, (62, 70, 140))
    radius, angle = np.hypot(x - 1, y - 1), np.arctan2(y - 1, x - 1)
    star = np.clip(2.6 + 0.9 * np.cos(5 * angle) - radius, 0, 1)[..., None]
    paint += 0.8 * star * (np.array((26, 24, 58.0)) - paint)
    return np.hypot(x, y) - size, paint


#: How to draw each, and how far it reaches from its centre.
FRUITS: Sequence[tuple[Callable[[np.ndarray, np.ndarray], Drawn], float]] = (
    (_apple, 14.0),
    (_lemon, 14.0),
    (_blueberry, 8.0),
)
