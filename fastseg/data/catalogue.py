"""Data sets by name."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from .base import DataError, Dataset, Sample
from .cifar10 import Cifar10
from .coco_persons import CocoPersons
from .coco_stuff import CocoStuff
from .cub import Cub
from .flowers import Flowers
from .folder import Folder
from .fruits import Fruits
from .lsun_car import LsunCar
from .potsdam import Potsdam
from .shards import Shards

__all__ = ["NAMES", "Subset", "open_dataset"]

#: How to open a set, from its path, the split and its options.
SETS: Mapping[str, Callable[..., Dataset]] = {
    "potsdam-3": partial(Potsdam, classes=3),
    "potsdam-6": partial(Potsdam, classes=6),
    "coco-stuff-3": partial(CocoStuff, classes=3),
    "coco-stuff-15": partial(CocoStuff, classes=15),
    "coco-persons": CocoPersons,
    "cub": Cub,
    "flowers": Flowers,
    "lsun-car": LsunCar,
    "cifar10": Cifar10,
    "folder": Folder,
    "shards": Shards,
}
DRAWN = "fruits"  # has no path, but a seed
NAMES = (DRAWN, *SETS)
SPLITS = ("train", "val", "test", "all")
OPTIONS = {"folder": ("labels", "classes", "channels", "values"), "shards": ("classes", "channels")}
WHOLE = ("limit", "channels")  # options that are numbers


def open_dataset(spec: str, split: str = "train", seed: int = 0) -> Dataset:
    """The data set that `spec` names: NAME, NAME:PATH or NAME:PATH?option=value&option=value.

    Args:
        spec: NAME is one of `NAMES`. Every set has the option limit=N, a random N of its pictures,
            always the same ones; further ones are the arguments of `Folder` and `Shards`.
        split: "train", "val", "test" or "all".
        seed: of sets that are drawn; others do not change with it.

    Raises:
        DataError: there is no such set or split, or the set is missing or malformed, with what to
            do about it.
    """
    place, _, query = spec.partition("?")
    name, _, path = place.partition(":")
    if name not in NAMES:
        raise DataError(f"the data must be one of {', '.join(NAMES)}, got {name!r}")
    if split not in SPLITS:
        raise DataError(f"the split must be one of {', '.join(SPLITS)}, got {split!r}")
    if path and name == DRAWN:
        raise DataError(f"{name} are drawn, not read, and need no path, got {path!r}")
    if not path and name != DRAWN:
        raise DataError(f"{name} needs a path: {name}:PATH")
    options = _options(query, (*OPTIONS.get(name, ()), "limit"))
    limit = options.pop("limit", None)
    Image.init()  # Pillow's plugins are loaded before threads decode
    dataset = Fruits(split, seed) if name == DRAWN else SETS[name](path, split, **options)
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
