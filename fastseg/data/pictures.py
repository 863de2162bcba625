"""Sets whose samples are picture files: reading them, pairing them, saying what is wrong."""

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..predict.files import find_pictures, readable
from ..predict.pictures import PictureError, decode_picture, read_picture
from .base import DataError, Dataset, Sample

__all__ = [
    "VOID",
    "Entry",
    "Pictures",
    "by_stem",
    "check_split",
    "need",
    "read_channels",
    "read_grey",
    "read_image",
    "read_index",
    "relabel",
    "shuffled",
    "to_labels",
]

VOID = 255
UNCOMPRESSED, TRANSPARENCY = 1, 2  # in TIFF; of the latter Pillow makes nothing


class Entry(NamedTuple):
    """A sample's files."""

    key: str
    image: str
    truth: str | None = None


class Pictures(Dataset):
    """Samples that are an image file each, and a file of its truth or none."""

    channels = 3
    entries: Sequence[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        key, path, truth = self.entries[index]
        image = read_image(path, self.channels)
        labels = None if truth is None else self.labels(truth)
        if labels is not None and labels.shape != image.shape[:2]:
            sizes = "x".join(map(str, labels.shape[::-1])), "x".join(map(str, image.shape[1::-1]))
            raise DataError(f"{readable(str(truth))} is {sizes[0]}, its picture {sizes[1]}")
        return Sample(readable(key), image, labels)

    @abstractmethod
    def labels(self, path: str) -> np.ndarray:
        """The classes (H,W) int16 in a file of truth."""


def read_image(path: str, channels: int = 3, content: bytes | None = None) -> np.ndarray:
    """(H,W,C) uint8: upright RGB, or of 4 channels the file's own, none of which is transparency.

    Args:
        content: the file's, if it has been read already.

    Raises:
        DataError: the file cannot be read, or has other channels.
    """
    if channels != 3:
        return read_channels(path, channels, content)
    try:
        if content is None:
            return np.asarray(read_picture(path)[0])
        return np.asarray(decode_picture(BytesIO(content))[0])
    except PictureError as error:
        raise DataError(f"{readable(path)}: {error}") from error


def read_channels(path: str, channels: int, content: bytes | None = None) -> np.ndarray:
    """The channels (H,W,C) uint8 of a file just as they are.

    Raises:
        DataError: the file cannot be read, or has other channels.
    """
    return _decoded(path, content, _whole, (channels,))


def read_index(path: str, content: bytes | None = None) -> np.ndarray:
    """The values (H,W) uint8 of a label picture, palette indices as they are.

    Raises:
        DataError: the file cannot be read, or is not of one channel of 8 bits.
    """
    return _decoded(path, content, _single, ())


def read_grey(path: str) -> np.ndarray:
    """The foreground of a mask as 1, from 128 of 255 on, and the background as 0: (H,W) int16."""
    return (read_index(path) >= 128).astype(np.int16)


def _decoded(
    path: str,
    content: bytes | None,
    decode: Callable[[str | BytesIO], np.ndarray],
    channels: tuple[int, ...],
) -> np.ndarray:
    try:
        values = decode(path if content is None else BytesIO(content))
    except Exception as error:  # decoders raise nearly everything on broken data
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise DataError(f"{readable(path)} cannot be decoded: {reason}") from error
    if values.dtype != np.uint8 or values.ndim < 2 or values.shape[2:] != channels:
        raise DataError(
            f"{readable(path)} must have {channels[0] if channels else 'one'} channel"
            f"{'s' * bool(channels)} of 8 bits, got {values.dtype} {values.shape}"
        )
    return values


def _single(file: str | BytesIO) -> np.ndarray:
    with Image.open(file) as picture:
        values = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    grey = values.ndim == 3 and (values[..., :3] == values[..., :1]).all()  # written as colours
    return values[..., 0] if grey else values


def _whole(file: str | BytesIO) -> np.ndarray:
    # Pillow drops a fourth channel of TIFF that nothing is said of, and divides by one that is said
    # to have been multiplied with.
    from tifffile import TiffFile, TiffFileError  # comes with scikit-image

    try:
        with TiffFile(file) as tiff:
            page = tiff.pages.first
            extra = {int(kind) for kind in page.extrasamples}
            if extra - {TRANSPARENCY} or page.compression == UNCOMPRESSED:
                return np.moveaxis(page.asarray(), 0, 2) if page.axes == "SYX" else page.asarray()
    except TiffFileError:
        pass
    if isinstance(file, BytesIO):
        file.seek(0)
    with Image.open(file) as picture:
        return np.asarray(picture)


def to_labels(values: np.ndarray, classes: int, path: str) -> np.ndarray:
    """Indices as classes (H,W) int16, 255 as −1.

    Raises:
        DataError: an index is neither a class nor 255; `path` says where.
    """
    strange = (values >= classes) & (values != VOID)
    if strange.any():
        y, x = np.argwhere(strange)[0]
        raise DataError(
            f"{readable(path)} must hold 0 … {classes - 1}, and {VOID} for none, "
            f"got {values[y, x]} at row {y}, column {x}"
        )
    return relabel(values, [[label] for label in range(classes)])


def relabel(values: np.ndarray, groups: Sequence[Iterable[int]]) -> np.ndarray:
    """Each of the values (uint8) as the number of its group, int16; −1 if it is in none."""
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


def shuffled(names: Iterable[str]) -> list[str]:
    """The names in an order that looks random and that each has its own part in, for splits."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def need(root: str | Path, *names: str, help: str) -> None:
    """Raise a `DataError` that ends with `help` unless everything named is in `root`."""
    for name in names:
        path = os.path.join(root, name)
        if not os.path.exists(path):
            raise DataError(f"{readable(path)} does not exist. {help}")


def check_split(name: str, split: str, splits: Sequence[str]) -> None:
    """Raise a `DataError` unless the set `name` has the split."""
    if split not in splits:
        raise DataError(f"the splits of {name} are {', '.join(splits)}, got {split!r}")
