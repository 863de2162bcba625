"""Superpixels of whole pictures, computed once and kept in files that processes share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..ops.slic import slic
from .cache import ArrayCache

__all__ = ["SuperpixelCache", "dense"]


class SuperpixelCache(ArrayCache):
    """Superpixels by SLIC, each picture's in a file named by its pixels and the parameters."""

    def __call__(self, image: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
        """The superpixels (H,W), int16 or int32, of an image (H,W,C) uint8.

        Args:
            parameters: further arguments of `fastseg.slic`.
        """
        return self.get(image, parameters, image.shape[:2], lambda: _compute(image, parameters))


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
