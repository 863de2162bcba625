"""`folder:DIR`: pictures of one's own, with or without truth."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..predict.files import readable
from .base import DataError, Dataset, Sample
from .pictures import VOID, by_stem, read_image, read_index, to_labels

__all__ = ["Folder"]

LAYOUT = (
    "A folder of pictures may have them below itself, or in images/ with their truth in masks/ or "
    "labels/: index pictures of the same names, classes from 0, 255 for none. With train/ and "
    "test/ in it, each of these is such a folder."
)
TRUTH = ("labels", "masks")


class Folder(Dataset):
    """The pictures below a folder, sorted by name, and the label pictures of the same names.

    Args:
        root: see `LAYOUT`.
        split: the folder in `root` to take, if there is one; else every split is the whole.
        labels: the truth's folder, in `root` or not; by default labels/ or masks/.
        classes: the classes' names, or only their number; by default those of the file classes.txt,
            a line each, and without it as many as the truth has.
        channels: 3, RGB; 4, as the files have them, where the fourth is infrared or the like.
        values: "index", or "grey": masks, foreground from 128 on.

    Raises:
        DataError: there are no pictures, or the truth does not fit.
    """

    def __init__(
        self,
        root: str,
        split: str = "all",
        *,
        labels: str | None = None,
        classes: str | None = None,
        channels: int = 3,
        values: str = "index",
    ) -> None:
        if values not in ("index", "grey"):
            raise DataError(f"`values` must be 'index' or 'grey', got {values!r}")
        if channels not in (3, 4):
            raise DataError(f"`channels` must be 3 or 4, got {channels}")
        if not os.path.isdir(root):
            raise DataError(f"{readable(root)} is not a folder. {LAYOUT}")
        self.channels, self.values = channels, values
        home = os.path.join(root, split)
        home = home if os.path.isdir(home) else root
        images = os.path.join(home, "images")
        files = by_stem(images if os.path.isdir(images) else home)
        if not files:
            raise DataError(f"{readable(home)} holds no pictures. {LAYOUT}")
        self.stems, self.files = list(files), list(files.values())
        self.truth = _truth(home, root, labels, os.path.isdir(images))
        if self.truth and not set(self.truth) & set(files):
            raise DataError(
                f"no label picture has the name of a picture: {next(iter(self.truth.values()))}"
                f" and {self.files[0]} do not go together. {LAYOUT}"
            )
        self.classes = self._classes((home, root), classes) if self.truth else ()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        image, labels = read_image(self.files[index], self.channels), None
        if path := self.truth.get(self.stems[index]):
            indices = self._values(path)
            if indices.shape != image.shape[:2]:
                raise DataError(
                    f"{readable(path)} is {indices.shape}, its picture {image.shape[:2]}"
                )
            labels = to_labels(indices, len(self.classes), path)
        return Sample(readable(self.stems[index]), image, labels)

    def _values(self, path: str) -> np.ndarray:
        values = read_index(path)
        return (values >= 128).astype(np.uint8) if self.values == "grey" else values

    def _classes(self, folders: Sequence[str], chosen: str | None) -> Sequence[str]:
        if self.values == "grey":
            return ("background", "foreground")
        for folder in folders:
            file = Path(folder, "classes.txt")
            if chosen is None and file.exists():
                return tuple(file.read_text("utf-8").splitlines())
        if chosen is not None and not chosen.isdecimal():
            return tuple(chosen.split(","))
        count = int(chosen) if chosen else self._count()
        return tuple(map(str, range(count)))

    def _count(self) -> int:
        """How many classes the truth has: it is read for this."""
        found = np.zeros(256, bool)
        for path in self.truth.values():
            found[np.unique(self._values(path))] = True
        if not found[1:VOID].any():
            raise DataError(
                f"the truth of {self.files[0]} and others holds 0 and 255 only, which is one class "
                "and none: say values=grey if 255 is foreground"
            )
        return int(np.flatnonzero(found[:VOID])[-1]) + 1


def _truth(home: str, root: str, labels: str | None, may_be_there: bool) -> dict[str, str]:
    """The label pictures by name."""
    if labels is not None:
        places = [os.path.join(folder, labels) for folder in (home, root, "")]
        folder = next((place for place in places if os.path.isdir(place)), None)
        if folder is None:
            raise DataError(f"labels={labels}: there is no folder {readable(places[0])}")
        return by_stem(folder)
    for name in TRUTH if may_be_there else ():
        if os.path.isdir(folder := os.path.join(home, name)):
            return by_stem(folder)
    return {}
