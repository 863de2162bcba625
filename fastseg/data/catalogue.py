"""Data sets by name."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from .base import DataError, Dataset, Sample
from .folder import Folder
from .fruits import Fruits

__all__ = ["NAMES", "Subset", "open_dataset"]

Open = Callable[..., Dataset]

#: name → how to open it from path, split, seed and options, and what options it has
SETS: Mapping[str, tuple[Open, tuple[str, ...]]] = {
    "fruits": (lambda path, split, seed: Fruits(split, seed), ()),
    "folder": (
        lambda path, split, seed, **options: Folder(path, split, **options),
        ("labels", "classes", "channels", "values"),
    ),
}
NAMES = tuple(SETS)
SPLITS = ("train", "val", "test", "all")
WHOLE = ("limit", "channels")  # options that are numbers


def open_dataset(spec: str, split: str = "train", seed: int = 0) -> Dataset:
    """The data set that `spec` names: NAME, NAME:PATH or NAME:PATH?option=value&option=value.

    Args:
        spec: NAME is one of `NAMES`. Every set has the option limit=N, a random N of its pictures,
            always the same ones.
        split: "train", "val", "test" or "all".
        seed: of sets that are drawn; others do not change with it.

    Raises:
        DataError: there is no such set or split, or the set is missing or malformed, with what to
            do about it.
    """
    name, _, rest = spec.partition(":")
    if "?" in name:
        name, _, query = spec.partition("?")
        path = ""
    else:
        path, _, query = rest.partition("?")
    if name not in SETS:
        raise DataError(f"the data must be one of {', '.join(NAMES)}, got {name!r}")
    if split not in SPLITS:
        raise DataError(f"the split must be one of {', '.join(SPLITS)}, got {split!r}")
    open_it, known = SETS[name]
    if bool(path) is (name == "fruits"):
        raise DataError(
            "fruits are drawn, not read: give no path"
            if path
            else f"{name} needs a path: {name}:PATH"
        )
    options = _options(query, (*known, "limit"))
    limit = options.pop("limit", None)
    Image.init()  # Pillow's plugins are loaded before threads decode
    dataset = open_it(path, split, seed, **options)
    return dataset if limit is None else Subset(dataset, limit)


def _options(query: str, known: tuple[str, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in known:
            raise DataError(f"options of the data are {', '.join(known)}, got {name!r}")
        if name in WHOLE and not (value.isdecimal() and int(value)):
            raise DataError(f"{name} must be a whole number from 1, got {value!r}")
        options[name] = int(value) if name in WHOLE else value
    return options


class Subset(Dataset):
    """A random `count` of a set's samples in their order, always the same ones; all, if fewer."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        self.dataset = dataset
        self.classes, self.channels = dataset.classes, dataset.channels
        self.geometry = dataset.geometry
        self.indices = np.sort(np.random.default_rng(0).permutation(len(dataset))[:count]).tolist()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]
