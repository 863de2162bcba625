"""Label maps as files, and superpixels scored against the truth: folders paired by name."""

import io
import os
import re
from typing import Any

import numpy as np
from PIL import Image

from ..metrics import superpixel_scores
from .files import CLASSES, SUPERPIXELS, readable
from .pictures import PictureError, pillow_settings
from .workers import cpu_count, work

__all__ = ["LabelFolder", "encode_labels", "evaluate_superpixels", "read_labels"]

SUFFIXES = (".npy", ".png")
MOST = 2**16  # labels in a PNG


def encode_labels(labels: np.ndarray, suffix: str) -> bytes:
    """(h,w) int32 labels from 0 as a 16-bit grey PNG or as NPY.

    Raises:
        PictureError: too many labels for a PNG.
    """
    file = io.BytesIO()
    if suffix == ".npy":
        np.save(file, labels)
    else:
        if labels.size and labels.max() >= MOST:
            raise PictureError(f"a PNG holds {MOST} labels, these are more: write NPY")
        Image.fromarray(labels.astype(np.uint16)).save(file, "PNG")
    return file.getvalue()


def read_labels(path: str, void: int | None = None) -> np.ndarray:
    """The label map (h,w) int64 of a PNG, palette indices as they are, or NPY; `void` becomes −1.

    Raises:
        PictureError: the file cannot be read, or holds something else.
    """
    try:
        if path.lower().endswith(".npy"):
            labels = np.load(path, allow_pickle=False)
        else:
            with Image.open(path, formats=["PNG"]) as image:
                labels = np.asarray(image)
    except Exception as error:
        raise PictureError(f"{readable(path)} cannot be decoded: {error}") from error
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise PictureError(
            f"{readable(path)} must hold integers (h,w), got {labels.dtype} {labels.shape}"
        )
    labels = labels.astype(np.int64)
    return labels if void is None else np.where(labels == void, -1, labels)


class LabelFolder:
    """The label maps, PNG or NPY, in a folder and below, by their relative path without suffix.

    Args:
        folder: of one run of `fastseg superpixels`, or of `fastseg segment --model`, its labels/
            is meant.

    Raises:
        ValueError: `folder` is not a folder, or holds no label map or two of one name.
    """

    def __init__(self, folder: str) -> None:
        if any(os.path.exists(os.path.join(folder, name)) for name in (SUPERPIXELS, CLASSES)):
            folder = os.path.join(folder, "labels")
        if not os.path.isdir(folder):
            raise ValueError(f"{readable(folder)} is not a folder")
        self.folder = folder
        self.files: dict[str, str] = {}
        for here, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(here, name)
                stem, suffix = os.path.splitext(os.path.relpath(path, folder))
                if suffix.lower() not in SUFFIXES or name.startswith("."):
                    continue
                if (other := self.files.setdefault(stem, path)) != path:
                    raise ValueError(
                        f"two label maps of one name: {readable(other)}, {readable(path)}"
                    )
        if not self.files:
            raise ValueError(f"{readable(folder)} holds no label maps, PNG or NPY")

    def annotations(self, stem: str) -> list[str]:
        """Files of one picture's truth: STEM, and STEM_0, STEM_1, … of several annotators."""
        pattern = re.compile(re.escape(stem) + r"(_\d+)?")
        return [path for name, path in self.files.items() if pattern.fullmatch(name)]


def evaluate_superpixels(
    pred: LabelFolder,
    truth: LabelFolder,
    *,
    void: int | None = None,
    tolerance: int | None = None,
    jobs: int | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Score every label map of `pred`, sorted by name: file, mean scores, annotations, a note.

    Of several annotations of a picture the scores are the mean. A label map without truth, or that
    cannot be scored, has the reason in its note and no scores.

    Args:
        void: value of the truth's pixels to leave out.
        tolerance: of boundary recall: see `superpixel_scores`.

    Raises:
        Stopped: Ctrl-C.
    """
    rows: dict[str, dict[str, Any]] = {}

    def one(stem: str) -> dict[str, Any]:
        row: dict[str, Any] = {"file": readable(stem)}
        try:
            labels, files = read_labels(pred.files[stem]), truth.annotations(stem)
            if not files:
                raise PictureError(f"no label map of this name in {readable(truth.folder)}")
            found = [_score(labels, read_labels(path, void), tolerance) for path in files]
        except PictureError as error:
            return {**row, "note": str(error)}
        row |= {name: float(np.mean([score[name] for score in found])) for name in found[0]}
        return {**row, "annotations": len(found), "note": ""}

    with pillow_settings():
        work(one, sorted(pred.files), rows.__setitem__, jobs or cpu_count(), "label maps", progress)
    return [rows[stem] for stem in sorted(rows)]


def _score(labels: np.ndarray, truth: np.ndarray, tolerance: int | None) -> dict[str, float]:
    if labels.shape != truth.shape:
        sizes = [f"{found.shape[1]}x{found.shape[0]}" for found in (labels, truth)]
        raise PictureError(f"the label map is {sizes[0]}, the truth {sizes[1]}")
    scores = superpixel_scores(labels[None], truth[None], tolerance)
    return {name: float(value[0]) for name, value in scores._asdict().items()}
