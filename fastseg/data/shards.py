"""`shards:PATTERN`: pictures in tar files, as WebDataset has them, for sets that outgrow a disk."""

import glob
import io
import itertools
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..predict.files import SUFFIXES, readable, write
from .base import DataError, Dataset, Sample
from .pictures import read_image, read_index, to_labels

__all__ = ["Shards"]

LAYOUT = (
    "A shard is a tar file, not compressed, with members KEY.jpg (or another picture) and, where "
    "there is truth, KEY.seg.png beside it: an index picture, classes from 0, 255 for none."
)
TRUTH = (".seg.png", ".labels.png", ".mask.png")
BUFFER = 4096


class Shards(Dataset):
    """The pictures in tar files, in the order of the files' names and of the members in them.

    Where each member lies is found out once and kept beside the tar file, in `.NAME.tar.index.npy`;
    then any sample can be read, by itself. An epoch of training takes the shards in random order
    and their samples in that of a buffer of 4096 that is filled in sequence and emptied at random,
    so that reading moves through each file.

    Args:
        pattern: file name with {000..127}, {a,b}, * and ** in it; {split} is the split's name.
        classes: names of the classes or their number; None: the truth is not read.
        channels: see `Folder`.

    Raises:
        DataError: there are no shards, or one is not as it should be.
    """

    def __init__(
        self,
        pattern: str,
        split: str = "all",
        *,
        classes: str | None = None,
        channels: int = 3,
    ) -> None:
        self.channels = channels
        if classes is not None and classes.isdecimal():
            self.classes = tuple(map(str, range(int(classes))))
        else:
            self.classes = tuple(classes.split(",")) if classes else ()
        self.paths = _expand(pattern.replace("{split}", split))
        if not self.paths:
            raise DataError(f"there is no file {readable(pattern)}. {LAYOUT}")
        self.indices = [_index(path) for path in self.paths]
        self.starts = np.cumsum([0, *map(len, self.indices)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> Sample:
        shard = int(np.searchsorted(self.starts, index, "right")) - 1
        member = self.indices[shard][index - self.starts[shard]]
        path, name = self.paths[shard], member["key"].decode()
        where = f"{name} in {readable(path)}"
        with open(path, "rb") as file:
            pixels = read_image(where, self.channels, _read(file, member["image"], where))
            labels = None
            if self.classes and member["truth"][1]:
                values = read_index(where, _read(file, member["truth"], where))
                labels = to_labels(values, len(self.classes), where)
        return Sample(f"{Path(path).stem}/{name}", pixels, labels)

    def order(self, random: np.random.Generator) -> np.ndarray:
        shards = random.permutation(len(self.paths))
        sequence = np.concatenate([np.arange(*self.starts[i : i + 2]) for i in shards])
        # Each sample is late by a random part of the buffer.
        late = random.uniform(0, BUFFER, len(sequence))
        return sequence[np.argsort(np.arange(len(sequence)) + late)]


def _expand(pattern: str) -> list[str]:
    """The files that a pattern names, each once, in the pattern's order."""
    paths = (sorted(glob.glob(p, recursive=True)) or [p] for p in _braces(pattern))
    return [path for path in dict.fromkeys(itertools.chain(*paths)) if os.path.exists(path)]


def _braces(pattern: str) -> Iterator[str]:
    """{000..127} and {a,b} written out."""
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if not match:
        yield pattern
        return
    first, last, names = match.groups()
    choices: Sequence[str] = (
        names.split(",")
        if names
        else [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    )
    for choice in choices:
        yield from _braces(pattern[: match.start()] + choice + pattern[match.end() :])


# --- where the members lie ----------------------------------------------------------------------


def _index(path: str) -> np.ndarray:
    """For each picture of a shard its key, and offset and size of image and truth (0: none)."""
    stat = os.stat(path)
    now = (stat.st_size, stat.st_mtime_ns)
    file = Path(path).with_name(f".{Path(path).name}.index.npy")
    try:
        index = np.load(file, mmap_mode="r", allow_pickle=False)
        if tuple(index[0]["image"]) == now:
            return index[1:]
    except (OSError, ValueError, EOFError, IndexError):
        pass  # there is none, or none that can be used
    rows = [(b"", now, (0, 0)), *_members(path)]  # first, what tells that the file has changed
    longest = max(len(key) for key, _, _ in rows)
    kind = [("key", f"S{longest + 1}"), ("image", np.int64, 2), ("truth", np.int64, 2)]
    index = np.array(rows, kind)
    content = io.BytesIO()
    np.save(content, index)
    with suppress(OSError):  # a folder that cannot be written to is looked through every time
        write(file, content.getvalue())
    return index[1:]


Place = tuple[int, int]


def _members(path: str) -> list[tuple[bytes, Place, Place]]:
    """Key and places of the pictures, in their order."""
    images: dict[str, Place] = {}
    truths: dict[str, Place] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                folder, name = os.path.split(member.name)
                stem, dot, suffix = name.partition(".")
                if not member.isfile() or not stem:
                    continue
                kind = f"{dot}{suffix}".lower()
                found = truths if kind in TRUTH else images if kind in SUFFIXES else None
                if found is not None:
                    place = member.offset_data, member.size
                    if found.setdefault(os.path.join(folder, stem), place) != place:
                        raise DataError(f"{readable(path)} has two pictures {member.name}")
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{readable(path)} is no tar file: {error}. {LAYOUT}") from error
    if not images:
        raise DataError(f"{readable(path)} holds no pictures. {LAYOUT}")
    return [(key.encode(), place, truths.get(key, (0, 0))) for key, place in images.items()]


def _read(file: BinaryIO, place: np.ndarray, where: str) -> bytes:
    file.seek(int(place[0]))
    content = file.read(int(place[1]))
    if len(content) < place[1]:
        raise DataError(f"{where}: the tar file is cut short")
    return content
