"""COCO-Stuff as IIC cut it: 15 coarse kinds of stuff, or sky, plant and ground."""

import os
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from ..predict.files import readable, write
from ..predict.workers import cpu_count, work
from .base import DataError
from .geometry import Geometry
from .pictures import Entry, Pictures, check_split, need, read_index, relabel

__all__ = ["COARSE", "Coco", "CocoStuff"]

LAYOUT = (
    "Get train2017.zip and val2017.zip of the pictures from cocodataset.org, and "
    "stuffthingmaps_trainval2017.zip from github.com/nightrome/cocostuff, so that there are "
    "ROOT/images/train2017/*.jpg, ROOT/annotations/train2017/*.png and the same of val2017."
)
FOLDERS = {"train": ("train2017",), "test": ("val2017",), "all": ("train2017", "val2017")}
LEAST_SIDE, LEAST_SHARE = 360, 0.75

#: Coarse kinds of stuff, each with its fine ids in the archive's label pictures.
COARSE: dict[str, Sequence[int]] = {
    "ceiling": (101, 102),
    "floor": (100, *range(113, 118)),
    "food": (120, 121, 152, 169),
    "furniture": (97, 106, 107, 109, 111, 122, 129, 132, 155, 160, 164),
    "raw material": (99, 131, 138, 142),
    "textile": (91, 92, 103, 104, 108, 130, 136, 140, 151, 166, 167),
    "wall": range(170, 177),
    "window": (179, 180),
    "building": (94, 95, 127, 150, 157, 165),
    "ground": (110, 124, 125, 135, 139, 143, 144, 146, 148, 153, 158),
    "plant": (93, 96, 118, 123, 128, 133, 141, 162, 168),
    "sky": (105, 156),
    "solid": (126, 134, 149, 159, 161, 181),
    "structural": (98, 112, 137, 145, 163),
    "water": (119, 147, 154, 177, 178),
}
SUBSETS = {15: tuple(COARSE), 3: ("sky", "plant", "ground")}


class Coco(Pictures):
    """Pictures of COCO chosen by their fine labels, resized to a third and cut to 128.

    Which are chosen is found out once, which reads every label picture, and written to
    ROOT/curated/NAME-FOLDER.txt, a name a line; who has a list of their own puts it there.

    Args:
        root: see `LAYOUT`.
        split: "train", train2017; "test", val2017; "all", both, as the papers train and score.
    """

    name: ClassVar[str]
    geometry = Geometry(128, scale=1 / 3)

    def __init__(self, root: str, split: str) -> None:
        check_split(self.name, split, tuple(FOLDERS))
        self.entries = []
        for folder in FOLDERS[split]:
            need(root, f"images/{folder}", f"annotations/{folder}", help=LAYOUT)
            for name in _curated(root, folder, self.name, self.chosen):
                image, truth = f"images/{folder}/{name}.jpg", f"annotations/{folder}/{name}.png"
                paths = os.path.join(root, image), os.path.join(root, truth)
                self.entries.append(Entry(f"{folder}/{name}", *paths))
        if not self.entries:
            raise DataError(f"{readable(root)} has no pictures that suit {self.name}. {LAYOUT}")

    def chosen(self, values: np.ndarray) -> bool:
        """Whether a picture with these fine labels (H,W) is of the set."""
        known = (self.group(values) >= 0).mean() if values.size else 0
        return min(values.shape) >= LEAST_SIDE and known >= LEAST_SHARE

    @abstractmethod
    def group(self, values: np.ndarray) -> np.ndarray:
        """Fine labels as classes, −1 for none."""

    def labels(self, path: str) -> np.ndarray:
        return self.group(read_index(path))


class CocoStuff(Coco):
    """15 or 3 classes of stuff; the rest has no class.

    Pictures of at least 360×360 of which at least 75 % have a class (Ji et al., "Invariant
    Information Clustering", ICCV 2019). Resizing averages, where theirs took every third pixel.

    Args:
        classes: 15 or 3.
    """

    def __init__(self, root: str, split: str = "train", classes: int = 15) -> None:
        self.classes = SUBSETS[classes]
        self.name = f"coco-stuff-{classes}"  # type: ignore[misc]
        super().__init__(root, split)

    def group(self, values: np.ndarray) -> np.ndarray:
        return relabel(values, [COARSE[name] for name in self.classes])


def _curated(root: str, folder: str, name: str, chosen: Callable[[np.ndarray], bool]) -> list[str]:
    """Names of the pictures of a set, from its list, which is made if there is none."""
    file = Path(root, "curated", f"{name}-{folder}.txt")
    if file.exists():
        return file.read_text("utf-8").split()
    annotations = Path(root, "annotations", folder)
    names = sorted(path.stem for path in annotations.glob("*.png"))
    if not names:
        raise DataError(f"{readable(str(annotations))} holds no PNG files. {LAYOUT}")
    results: dict[str, bool | DataError] = {}

    def look(stem: str) -> bool | DataError:
        try:
            return chosen(read_index(str(annotations / f"{stem}.png")))
        except DataError as error:
            return error

    if sys.stderr.isatty():
        tqdm.write(f"looking for the pictures of {name} in {folder}, once", file=sys.stderr)
    work(look, names, results.__setitem__, cpu_count(), "pictures", progress=True)
    for result in results.values():
        if isinstance(result, DataError):
            raise result
    curated = [stem for stem in names if results[stem]]
    with suppress(OSError):  # a folder that cannot be written to is looked through every time
        write(file, "".join(f"{stem}\n" for stem in curated).encode())
    return curated
