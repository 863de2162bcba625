"""CUB-200-2011: birds and their background."""

import os
from pathlib import Path

import numpy as np

from ..predict.files import readable
from .base import DataError
from .geometry import Geometry
from .pictures import Entry, Pictures, check_split, need, read_grey, shuffled

__all__ = ["Cub"]

LAYOUT = (
    "Get CUB_200_2011.tgz and segmentations.tgz from data.caltech.edu/records/65de6-vp158, and put "
    "segmentations/ into CUB_200_2011/, which is ROOT: ROOT/images.txt, ROOT/images/CLASS/*.jpg "
    "and ROOT/segmentations/CLASS/*.png."
)
SPLITS = ("train", "val", "test")
PICTURES, TEST, VAL = 11_788, 1_000, 788


class Cub(Pictures):
    """Bird photographs and masks; foreground is what most annotators call bird.

    ROOT/train_val_test_split.txt of the ReDO program (github.com/mickaelChen/ReDO), whose 1,000
    test pictures the paper on IEM scores, decides the split. Without it as many are taken, others.

    Args:
        root: see `LAYOUT`.
    """

    classes = ("background", "bird")
    geometry = Geometry(128, short=128)

    def __init__(self, root: str, split: str = "train") -> None:
        check_split("cub", split, (*SPLITS, "all"))
        need(root, "images.txt", "images", "segmentations", help=LAYOUT)
        lines = Path(root, "images.txt").read_text("utf-8").splitlines()
        names = dict(line.split() for line in lines if line)
        chosen = _splits(root, names)
        self.entries = [
            Entry(
                name[: -len(".jpg")],
                os.path.join(root, "images", name),
                os.path.join(root, "segmentations", name[: -len(".jpg")] + ".png"),
            )
            for number, name in names.items()
            if split in ("all", chosen[number])
        ]

    def labels(self, path: str) -> np.ndarray:
        return read_grey(path)


def _splits(root: str, names: dict[str, str]) -> dict[str, str]:
    """Number of a picture → split."""
    file = Path(root, "train_val_test_split.txt")
    if not file.exists():
        order = shuffled(names)
        test, val = (round(len(names) * count / PICTURES) for count in (TEST, VAL))
        parts = ["test"] * test + ["val"] * val + ["train"] * (len(names) - test - val)
        return dict(zip(order, parts, strict=True))
    chosen = {}
    for line in file.read_text("utf-8").splitlines():
        number, _, part = line.partition(" ")
        if part.strip() not in ("0", "1", "2"):
            raise DataError(f"{readable(str(file))} must have lines NUMBER 0|1|2, got {line!r}")
        chosen[number] = SPLITS[int(part)]
    if missing := set(names) - set(chosen):
        raise DataError(f"{readable(str(file))} does not have picture {min(missing)}")
    return chosen
