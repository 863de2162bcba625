"""Score masks against true ones: two folders of mask pictures, paired by name."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..metrics import binary_scores
from .files import JOURNAL, find_pictures, readable
from .pictures import PictureError, pillow_settings
from .workers import cpu_count, work

__all__ = ["VALUES", "MaskFolder", "evaluate", "mean_scores", "read_mask", "score"]

VALUES = {
    "index": "0 background, 1 foreground, 255 void",
    "grey": "background below 128, foreground from there on",
}


class MaskFolder:
    """The mask pictures in a folder and below, by their relative path without suffix.

    Args:
        folder: of one run of `fastseg segment`, its masks/ is meant.
        values: what a pixel's value means, a key of `VALUES`, or "auto": "index" if any file of the
            folder holds the value 1 and none but 0, 1 and 255, else "grey". One choice for all
            files, because a file of 0 and 255 alone may be either.

    Raises:
        ValueError: `folder` is not a folder, holds no picture or two of one name.
    """

    def __init__(self, folder: str, values: str = "auto") -> None:
        if os.path.exists(os.path.join(folder, JOURNAL)):
            folder = os.path.join(folder, "masks")
        if not os.path.isdir(folder):
            raise ValueError(f"{readable(folder)} is not a folder")
        self.folder, self.values = folder, values
        self.files: dict[str, str] = {}
        for source in find_pictures([folder]):
            other = self.files.setdefault(source.stem, source.path)
            if other != source.path:
                raise ValueError(
                    f"two masks of one name: {readable(other)}, {readable(source.path)}"
                )
        if not self.files:
            raise ValueError(f"{readable(folder)} holds no mask pictures")

    def settle(self) -> None:
        """Decide what "auto" stands for, which may read every file."""
        if self.values == "auto":
            self.values = "index" if any(map(_is_index_mask, self.files.values())) else "grey"

    def read(self, stem: str) -> tuple[np.ndarray, np.ndarray]:
        """Foreground and void of one mask: see `read_mask`."""
        if stem not in self.files:
            raise PictureError(f"no mask of this name in {readable(self.folder)}")
        return read_mask(self.files[stem], self.values)


def read_mask(path: str, values: str) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and void, bool (h,w) each; `values` is a key of `VALUES`.

    Raises:
        PictureError: the file cannot be read, or its values are others.
    """
    levels = _levels(path)
    if values == "grey":
        return levels >= 128, np.zeros(levels.shape, bool)
    if strange := sorted(set(np.unique(levels).tolist()) - {0, 1, 255}):
        raise PictureError(f"an index mask holds 0, 1 and 255, {readable(path)} also {strange[0]}")
    return levels == 1, levels == 255


def _levels(path: str) -> np.ndarray:
    """The values of a mask picture, palette indices as they are: uint8 (h,w)."""
    try:
        with Image.open(path) as image:
            levels = np.asarray(image.convert("L") if image.mode == "1" else image)
    except Exception as error:
        raise PictureError(f"{readable(path)} cannot be decoded: {error}") from error
    if levels.ndim == 3 and (levels[..., :3] == levels[..., :1]).all():
        levels = levels[..., 0]
    if levels.ndim != 2 or levels.dtype != np.uint8:
        raise PictureError(f"{readable(path)} is not an 8-bit mask of one channel")
    return levels


def _is_index_mask(path: str) -> bool:
    try:
        values = set(np.unique(_levels(path)).tolist())
    except PictureError:
        return False  # reported when it is scored
    return 1 in values and values <= {0, 1, 255}


def score(pred: np.ndarray, truth: np.ndarray, void: np.ndarray) -> dict[str, float]:
    """Column → value: accuracy, iou, miou, dice, and the same as oracle_….

    Raises:
        PictureError: the masks differ in size.
    """
    if pred.shape != truth.shape:
        sizes = [f"{mask.shape[1]}x{mask.shape[0]}" for mask in (pred, truth)]
        raise PictureError(f"the mask is {sizes[0]}, the truth {sizes[1]}")
    masks = pred[None], truth[None], void[None]
    given, oracle = binary_scores(*masks), binary_scores(*masks, polarity="oracle")
    columns = {name: float(value[0]) for name, value in given._asdict().items()}
    return columns | {f"oracle_{name}": float(v[0]) for name, v in oracle._asdict().items()}


def mean_scores(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Column → mean over the images, leaving out those without a pixel to score."""
    rows = [row for row in rows if row and not np.isnan(row["accuracy"])]
    return {name: sum(row[name] for row in rows) / len(rows) for name in (rows[0] if rows else ())}


def evaluate(
    pred: MaskFolder, truth: MaskFolder, jobs: int | None = None, progress: bool = False
) -> list[dict[str, Any]]:
    """Score every mask of two folders, sorted by name: file, the columns of `score`, and a note.

    A mask without its counterpart, or that cannot be scored, has the reason in its note and no
    scores.

    Raises:
        Stopped: Ctrl-C.
    """
    rows: dict[str, dict[str, Any]] = {}

    def one(stem: str) -> dict[str, Any]:
        row = {"file": readable(stem)}
        try:
            return {**row, **score(pred.read(stem)[0], *truth.read(stem)), "note": ""}
        except PictureError as error:
            return {**row, "note": str(error)}

    stems = sorted({*pred.files, *truth.files})
    with pillow_settings():
        pred.settle()
        truth.settle()
        work(one, stems, rows.__setitem__, jobs or cpu_count(), "masks", progress)
    return [rows[stem] for stem in stems]
