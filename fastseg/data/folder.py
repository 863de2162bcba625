"""`folder:DIR`: pictures of one's own, with or without truth."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..predict.files import readable
from .base import DataError
from .pictures import (
    VOID,
    Entry,
    Pictures,
    by_stem,
    check_split,
    read_grey,
    read_index,
    to_labels,
)

__all__ = ["Folder"]

LAYOUT = (
    "A folder has its pictures in images/, or anywhere below itself, and their truth, if there is "
    "any, in labels/ or masks/: index pictures of the same names, classes from 0, 255 for none. "
    "With train/, val/ or test/ in it, each of these is such a folder."
)
TRUTH, SPLITS = ("labels", "masks"), ("train", "val", "test")


class Folder(Pictures):
    """The pictures below a folder, sorted by name, and the label pictures of the same names.

    Args:
        root: see `LAYOUT`.
        split: the folder in `root` to take, or "all" of them; where there is none of the names
            train, val and test, every split is the whole.
        labels: the truth's folder, in `root` or not; by default labels/ or masks/.
        classes: the classes' names, or only their number; by default those of the file classes.txt,
            a line each, and without it as many as the truth of the split has.
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
            raise DataError(f"values must be 'index' or 'grey', got {values!r}")
        if channels not in (3, 4):
            raise DataError(f"channels must be 3 or 4, got {channels}")
        if not os.path.isdir(root):
            raise DataError(f"{readable(root)} is not a folder. {LAYOUT}")
        self.channels, self.grey = channels, values == "grey"
        there = [name for name in SPLITS if os.path.isdir(os.path.join(root, name))]
        if there and split != "all":
            check_split(f"folder:{readable(root)}", split, (*there, "all"))
        parts = there if split == "all" else [split][: len(there)]
        self.entries = []
        for part in parts or [""]:
            self.entries += _entries(root, part, labels, keyed=len(parts) > 1)
        self.classes = self._classes([os.path.join(root, part) for part in (*parts, "")], classes)

    def labels(self, path: str) -> np.ndarray:
        if self.grey:
            return read_grey(path)
        return to_labels(read_index(path), len(self.classes), path)

    def _classes(self, folders: Sequence[str], chosen: str | None) -> Sequence[str]:
        if self.grey:
            return ("background", "foreground")
        files = (Path(folder, "classes.txt") for folder in folders)
        if chosen is None and (file := next(filter(Path.exists, files), None)):
            return tuple(file.read_text("utf-8").splitlines())
        if chosen is not None and not chosen.isdecimal():
            return tuple(chosen.split(","))
        return tuple(map(str, range(int(chosen) if chosen else self._count())))

    def _count(self) -> int:
        """How many classes the truth has: all of it is read for this."""
        found, example = np.zeros(256, bool), ""
        for entry in self.entries:
            if entry.truth:
                example = entry.truth
                found[np.unique(read_index(example))] = True
        if found[VOID] and not found[1:VOID].any():
            raise DataError(
                f"{readable(example)} and the like hold 0 and {VOID} only, one "
                "class and none: say values=grey if these are background and foreground"
            )
        return int(np.flatnonzero(found[:VOID]).max(initial=-1)) + 1


def _entries(root: str, part: str, labels: str | None, keyed: bool) -> list[Entry]:
    """The pictures of a split, with their truth."""
    home = os.path.join(root, part) if part else root
    if labels is None:
        places = [os.path.join(home, name) for name in TRUTH]
    else:
        places = [os.path.join(folder, labels) for folder in (home, root, "")]
    folder = next(filter(os.path.isdir, places), None)
    if labels is not None and folder is None:
        raise DataError(f"{readable(places[0])}, the folder of labels, does not exist")
    images = os.path.join(home, "images")
    files = by_stem(images if os.path.isdir(images) else home)
    truth: dict[str, str] = {}
    if folder is not None:
        truth = by_stem(folder)
        taken = set(truth.values())
        files = {stem: path for stem, path in files.items() if path not in taken}
    if not files:
        raise DataError(f"{readable(home)} holds no pictures. {LAYOUT}")
    if truth and not set(truth) & set(files):
        names = readable(next(iter(truth.values()))), readable(next(iter(files.values())))
        raise DataError(f"no name is that of a picture and its truth: {', '.join(names)}")
    return [
        Entry(f"{part}/{stem}" if keyed else stem, path, truth.get(stem))
        for stem, path in files.items()
    ]
