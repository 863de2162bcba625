"""Files of pictures and labels, and what is wrong with them."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..predict.files import find_pictures, readable
from ..predict.pictures import PictureError, read_picture
from .base import DataError

__all__ = ["by_stem", "need", "read_image", "read_index", "relabel", "to_labels", "translate"]

VOID = 255


def read_image(path: str | Path, channels: int = 3) -> np.ndarray:
    """(H,W,C) uint8: upright RGB, or of 4 channels the file's own, none of which is transparency.

    Raises:
        DataError: the file cannot be read, or has other channels.
    """
    try:
        if channels == 3:
            return np.asarray(read_picture(str(path))[0])
        with Image.open(path) as picture:
            pixels = np.asarray(picture)
    except PictureError as error:
        raise DataError(f"{readable(str(path))}: {error}") from error
    except Exception as error:  # decoders raise nearly everything on broken data
        raise DataError(f"{readable(str(path))} cannot be decoded: {error}") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != channels:
        raise DataError(
            f"{readable(str(path))} must have {channels} channels of 8 bits, "
            f"got {pixels.dtype} {pixels.shape}"
        )
    return pixels


def read_index(path: str | Path) -> np.ndarray:
    """The values (H,W) uint8 of a label picture, palette indices as they are.

    Raises:
        DataError: the file cannot be read, or is not of one channel of 8 bits.
    """
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    except Exception as error:
        raise DataError(f"{readable(str(path))} cannot be decoded: {error}") from error
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2 or values.dtype != np.uint8:
        raise DataError(
            f"{readable(str(path))} must be an 8-bit index picture, "
            f"got {values.dtype} {values.shape}"
        )
    return values


def to_labels(values: np.ndarray, classes: int, path: object) -> np.ndarray:
    """Indices as classes (H,W) int16, 255 as −1.

    Raises:
        DataError: an index is neither a class nor 255; `path` says where.
    """
    strange = (values >= classes) & (values != VOID)
    if strange.any():
        y, x = np.argwhere(strange)[0]
        raise DataError(
            f"{readable(str(path))} must hold 0 … {classes - 1} and 255 for no class, "
            f"got {values[y, x]} at row {y}, column {x}"
        )
    return translate(values, range(classes))


def translate(values: np.ndarray, codes: Iterable[int]) -> np.ndarray:
    """Each value as its place among `codes`, int16; −1 if it is not one of them."""
    table = np.full(256, -1, np.int16)
    for label, code in enumerate(codes):
        table[code] = label
    return table[values]


def relabel(values: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Each value as the number of the group that it is in, int16; −1 if it is in none."""
    table = np.full(256, -1, np.int16)
    for label, group in enumerate(groups):
        table[list(group)] = label
    return table[values]


def by_stem(folder: str | Path) -> dict[str, str]:
    """The pictures in a folder and below, by their relative path without suffix, sorted.

    Raises:
        DataError: two have one name.
    """
    files: dict[str, str] = {}
    for source in find_pictures([str(folder)]):
        if (other := files.setdefault(source.stem, source.path)) != source.path:
            raise DataError(f"two files of one name: {readable(other)}, {readable(source.path)}")
    return dict(sorted(files.items()))


def need(root: str | Path, *names: str, help: str, there: Callable[[str], bool] = os.path.exists):
    """Raise a `DataError` that ends with `help` unless everything named is in `root`."""
    for name in names:
        path = os.path.join(root, name)
        if not there(path):
            raise DataError(f"{readable(path)} does not exist. {help}")
