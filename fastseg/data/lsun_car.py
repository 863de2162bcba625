"""LSUN Car: cars and their background."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..predict.files import readable
from .base import DataError
from .geometry import Geometry
from .pictures import Entry, Pictures, by_stem, check_split, need, read_grey, shuffled

__all__ = ["LsunCar", "export"]

LAYOUT = (
    "Get objects/car.zip from dl.yf.io/lsun, unpack it to car/ with data.mdb in it, and run "
    "`fastseg data lsun-car car ROOT --count 10000`; masks, where there are any, go to "
    "ROOT/masks/NAME.png for ROOT/images/NAME.webp, white where the car is."
)
TEST = 1_040


class LsunCar(Pictures):
    """Photographs of cars; masks have to be made, as in the paper on IEM by Mask R-CNN.

    1,040 pictures that have a mask, chosen by their names, are "test", the others "train".

    Args:
        root: see `LAYOUT`.
    """

    geometry = Geometry(128, short=128)

    def __init__(self, root: str, split: str = "train") -> None:
        check_split("lsun-car", split, ("train", "test", "all"))
        need(root, "images", help=LAYOUT)
        images = by_stem(os.path.join(root, "images"))
        masks = by_stem(os.path.join(root, "masks"))
        if not images:
            raise DataError(f"{readable(root)}/images holds no pictures. {LAYOUT}")
        test = set(shuffled(set(images) & set(masks))[:TEST])
        if split == "test" and not test:
            raise DataError(f"{readable(root)} has no masks of its pictures. {LAYOUT}")
        self.classes = ("background", "car") if test else ()
        self.entries = [
            Entry(name, path, masks.get(name))
            for name, path in images.items()
            if split == "all" or (name in test) == (split == "test")
        ]

    def labels(self, path: str) -> np.ndarray:
        return read_grey(path)


def export(database: str | Path) -> Iterator[tuple[str, bytes]]:
    """Name and content, WebP, of every picture in an LMDB folder of LSUN, in its order.

    Raises:
        DataError: there is no such database, or lmdb is not installed.
    """
    try:
        import lmdb
    except ImportError:
        raise DataError("the pictures are in an LMDB: `pip install lmdb` first") from None
    try:
        environment = lmdb.open(str(database), readonly=True, lock=False, create=False)
    except lmdb.Error as error:
        raise DataError(f"{readable(str(database))} is no LMDB: {error}. {LAYOUT}") from error
    with environment, environment.begin() as transaction:
        for key, content in transaction.cursor():
            yield key.decode(), content
