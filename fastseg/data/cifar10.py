"""CIFAR-10: small pictures in ten classes, without masks."""

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..predict.files import readable
from .base import DataError, Dataset, Sample
from .geometry import Geometry
from .pictures import check_split

__all__ = ["Cifar10"]

LAYOUT = (
    "Get cifar-10-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html; ROOT is the folder "
    "cifar-10-batches-py in it, with data_batch_1 … data_batch_5 and test_batch."
)
TRAIN, TEST = tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",)
FILES = {"train": TRAIN, "test": TEST, "all": TRAIN + TEST}
SIDE = 32


class Cifar10(Dataset):
    """Pictures of 32×32; a sample's key begins with the name of its class.

    Args:
        root: see `LAYOUT`.
    """

    classes = ()  # of pixels there are none
    channels = 3
    geometry = Geometry(SIDE)

    def __init__(self, root: str, split: str = "train") -> None:
        check_split("cifar10", split, tuple(FILES))
        parts = [_read(Path(root, name)) for name in FILES[split]]
        self.pixels = np.concatenate([pixels for pixels, _ in parts])
        self.names = [name for _, names in parts for name in names]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Sample:
        image = self.pixels[index].reshape(3, SIDE, SIDE).transpose(1, 2, 0)
        return Sample(self.names[index], np.ascontiguousarray(image), None)


KINDS = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


#: All that a batch may ask for, whichever version of NumPy wrote it.
PLAIN = {
    "_reconstruct": np.empty(0).__reduce__()[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "encode": codecs.encode,
}


class _Unpickler(pickle.Unpickler):
    """Makes arrays and nothing else: a pickle could have any function called."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] in ("numpy", "_codecs") and name in PLAIN:
            return PLAIN[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _read(path: Path) -> tuple[np.ndarray, list[str]]:
    """Pixels (N,3072) uint8 and keys of a batch."""
    if not path.exists():
        raise DataError(f"{readable(str(path))} does not exist. {LAYOUT}")
    try:
        with path.open("rb") as file:
            batch = _Unpickler(file, encoding="bytes").load()
        pixels, labels, files = batch[b"data"], batch[b"labels"], batch[b"filenames"]
        names = [
            f"{KINDS[label]}/{Path(name.decode()).stem}"
            for label, name in zip(labels, files, strict=True)
        ]
    except Exception as error:
        raise DataError(f"{readable(str(path))} is no batch of CIFAR-10: {error}") from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(names), 3 * SIDE * SIDE):
        raise DataError(
            f"{readable(str(path))} must hold uint8 ({len(names)}, {3 * SIDE * SIDE}), "
            f"got {pixels.dtype} {pixels.shape}"
        )
    return pixels, names
