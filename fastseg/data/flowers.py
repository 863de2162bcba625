"""Oxford Flowers-102: flowers and their background."""

import os
from pathlib import Path

import numpy as np

from ..predict.files import readable
from .base import DataError
from .geometry import Geometry
from .pictures import Entry, Pictures, check_split, need, read_image

__all__ = ["Flowers"]

LAYOUT = (
    "Get 102flowers.tgz, 102segmentations.tgz and setid.mat from "
    "www.robots.ox.ac.uk/~vgg/data/flowers/102, so that there are ROOT/jpg/image_00001.jpg …, "
    "ROOT/segmim/segmim_00001.jpg … and ROOT/setid.mat."
)
# The large part is to train with, as in ReDO and the paper on IEM: setid.mat means another task.
PARTS = {"train": "tstid", "val": "valid", "test": "trnid"}
BLUE, NEAR = (0, 0, 254), 48  # the background in segmim, and how far JPEG takes it from that


class Flowers(Pictures):
    """Flower photographs, with the masks of the set's authors, which a program has drawn.

    6,149 pictures to train, 1,020 each for validation and test.

    Args:
        root: see `LAYOUT`.
    """

    classes = ("background", "flower")
    geometry = Geometry(128, short=128)

    def __init__(self, root: str, split: str = "train") -> None:
        check_split("flowers", split, (*PARTS, "all"))
        need(root, "setid.mat", "jpg", "segmim", help=LAYOUT)
        parts = PARTS.values() if split == "all" else (PARTS[split],)
        sets = _read_mat(Path(root, "setid.mat"))
        self.entries = [
            Entry(
                f"image_{number:05d}",
                os.path.join(root, "jpg", f"image_{number:05d}.jpg"),
                os.path.join(root, "segmim", f"segmim_{number:05d}.jpg"),
            )
            for number in sorted(int(n) for part in parts for n in sets[part].ravel())
        ]

    def labels(self, path: str) -> np.ndarray:
        away = np.abs(read_image(path).astype(np.int16) - np.array(BLUE, np.int16))
        return (away.max(-1) > NEAR).astype(np.int16)


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    try:
        sets = loadmat(path)
    except Exception as error:
        raise DataError(f"{readable(str(path))} cannot be decoded: {error}") from error
    if missing := set(PARTS.values()) - set(sets):
        raise DataError(f"{readable(str(path))} does not have {', '.join(sorted(missing))}")
    return sets
