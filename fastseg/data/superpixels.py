"""Superpixels of whole pictures, computed once and kept in files that processes share."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..ops.slic import slic
from ..predict.files import write

__all__ = ["SuperpixelCache", "dense"]


class SuperpixelCache:
    """Superpixels by SLIC, each picture's in a file named by its pixels and the parameters.

    What is asked for a second time is read through a memory map, whoever asks, as long as the
    folder stays; to delete it costs only time. Any number of threads and processes may share it: a
    file appears whole or not at all.

    Args:
        folder: made when it is first needed; None: compute every time.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def __call__(self, image: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
        """The superpixels (H,W), int16 or int32, of an image (H,W,C) uint8.

        Args:
            parameters: further arguments of `fastseg.slic`.
        """
        if self.folder is None:
            return _compute(image, parameters)
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
        digest.update(repr((image.shape, sorted(parameters.items()))).encode())
        name = digest.hexdigest()
        path = self.folder / name[:2] / f"{name[2:]}.npy"
        try:
            labels = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, EOFError):
            pass  # cut short by a disk that was full, or a machine that lost power
        else:
            if labels.shape == image.shape[:2]:
                return labels
        labels = _compute(image, parameters)
        content = io.BytesIO()
        np.save(content, labels)
        write(path, content.getvalue())
        return labels


def _compute(image: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
    pixels = torch.from_numpy(np.array(image.transpose(2, 0, 1)[None]))  # a copy may be written to
    labels = slic(pixels, **parameters)[0].numpy()
    return labels.astype(np.int16) if labels.max(initial=0) < 2**15 else labels


def dense(labels: np.ndarray) -> np.ndarray:
    """Labels ≥ 0 renumbered from 0 without gaps in their order, int32; −1 stays."""
    there = np.zeros(int(labels.max(initial=-1)) + 2, bool)
    there[labels] = True  # −1 is the last
    numbers = np.cumsum(there[:-1], dtype=np.int32) - 1
    return np.append(numbers, np.int32(-1))[labels]
