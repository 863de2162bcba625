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

    The sky is the same in each picture and of many colours, from deep blue to white. The fruits lie
    anywhere, turned anyhow, one before another, and always look the same. So what belongs together
    is what occurs together, not what has one colour (the synthetic set of the thesis on CIRS,
    §5.1.1, which says so much of its pictures but not how large the fruits are). Samples are drawn
    from `seed` and their number alone: 10,000 to train, 1,500 each for validation and test.
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
    """From night blue to light blue, one half of it behind white clouds with grey bellies."""
    down = np.linspace(0, 1, SIDE)[:, None]
    blue = np.stack([np.interp(down, (0, 1), ends) for ends in ((4, 96), (16, 196), (84, 255))])
    heap = sum(_noise(random, cells) * 4 / cells for cells in (4, 8, 16))
    cover = np.clip(0.5 + 5 * (heap - np.median(heap)), 0, 1)
    belly = np.clip(0.5 + 0.5 * _noise(random, 6), 0, 1)
    cloud = np.stack([np.interp(belly, (0, 1), (grey, 255)) for grey in (210, 216, 226)])
    sky = np.moveaxis(blue + cover * (cloud - blue), 0, -1)
    return sky + random.normal(0, 4, (SIDE, SIDE, 1))


def _painted(x: np.ndarray, y: np.ndarray, size: float, colour: Sequence[float]) -> Colours:
    """A round body of one colour, lit from its upper left, with a highlight."""
    away = ((x + 0.4 * size) ** 2 + (y + 0.4 * size) ** 2) / size**2
    gleam = 0.7 * np.exp(-away / 0.04)[..., None]
    paint = (1.08 - 0.13 * away[..., None]) * np.array(colour, float)
    return paint + gleam * (255 - paint)


def _over(paint: Colours, distance: np.ndarray, colour: Sequence[float]) -> Colours:
    """`paint` with what lies within `distance` 0 in another colour, its edge smoothed."""
    return paint + np.clip(0.5 - distance, 0, 1)[..., None] * (np.array(colour, float) - paint)


def _outlined(distance: np.ndarray, paint: Colours, colour: Sequence[float]) -> Drawn:
    return distance, _over(paint, abs(distance + 0.6) - 0.6, colour)


def _apple(x: np.ndarray, y: np.ndarray) -> Drawn:
    """Red, with a dent at the top and a stem in it."""
    size = 12.5
    angle = np.arctan2(x, -y)  # 0 at the top
    outline = size * (1 - 0.22 * np.exp(-((angle / 0.35) ** 2)) + 0.04 * np.cos(2 * angle))
    body = np.hypot(x, y) - outline
    stem = np.maximum(abs(x - 0.1 * (y + size)) - 1.4, abs(y + 0.9 * size) - 3.5)
    distance, paint = _outlined(body, _painted(x, y, size, (206, 24, 36)), (84, 6, 18))
    return np.minimum(distance, stem), _over(paint, stem, (92, 60, 24))


def _lemon(x: np.ndarray, y: np.ndarray) -> Drawn:
    """Yellow, longer than wide, with a tip at either end."""
    body = (np.sqrt((x / 12.5) ** 2 + (y / 10) ** 2) - 1) * 10
    tips = np.hypot(np.maximum(abs(x) - 12, 0), y) - 2.8 + np.maximum(10.5 - abs(x), 0)
    paint = _painted(x, y, 11, (246, 214, 44))
    return _outlined(np.minimum(body, tips), paint, (150, 104, 8))


def _blueberry(x: np.ndarray, y: np.ndarray) -> Drawn:
    """Dark blue, with a darker star at the top."""
    size = 10.0
    radius, angle = np.hypot(x - 1.5, y - 1.5), np.arctan2(y - 1.5, x - 1.5)
    star = radius - 3.2 - 1.2 * np.cos(5 * angle)
    paint = _over(_painted(x, y, size, (62, 66, 140)), star, (30, 26, 66))
    return _outlined(np.hypot(x, y) - size, paint, (18, 16, 48))


#: How to draw each, and how far it reaches from its centre.
FRUITS: Sequence[tuple[Callable[[np.ndarray, np.ndarray], Drawn], float]] = (
    (_apple, 15.5),
    (_lemon, 15.5),
    (_blueberry, 10.5),
)
