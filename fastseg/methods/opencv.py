"""Baselines by OpenCV: GrabCut, and K-means of dense SIFT descriptors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..data.base import Batch
from .base import Method
from .baselines import Clustering

__all__ = ["SIFT", "GrabCut", "GrabCutConfig", "SIFTConfig"]


def opencv() -> Any:
    """The module.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError("this baseline needs OpenCV: pip install 'fastseg[opencv]'") from error
    return cv2


def pixels(images: torch.Tensor) -> np.ndarray:
    """(B,C,H,W) of 0 … 1 as (B,H,W,C) uint8."""
    return (255 * images).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


@dataclass(frozen=True)
class GrabCutConfig:
    batch_size: int = 64
    margin: float = 0.1  #: share of either side, at each end, that is background for certain
    iterations: int = 5


class GrabCut(Method):
    """Rother et al., "GrabCut", SIGGRAPH 2004, from a centred rectangle."""

    Config = GrabCutConfig
    variants = ("mask",)
    binary = True
    gradient = False

    def __init__(self, config: GrabCutConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        if channels != 3:
            raise ValueError(f"GrabCut takes colours, `channels` of 3, got {channels}")
        if not 0 < config.margin < 0.5:
            raise ValueError(f"`margin` must be between 0 and 0.5, got {config.margin}")

    def fit(self, batches: Iterable[Batch]) -> None:
        """Nothing."""

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        masks = [self._mask(image) for image in pixels(batch.images)]
        return {"mask": torch.from_numpy(np.stack(masks)).long().to(batch.images.device)}

    def _mask(self, image: np.ndarray) -> np.ndarray:
        cv2 = opencv()
        height, width = image.shape[:2]
        down, right = (max(1, round(self.config.margin * side)) for side in (height, width))
        mask = np.full((height, width), cv2.GC_BGD, np.uint8)
        mask[down : height - down, right : width - right] = cv2.GC_PR_FGD
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)
        cv2.grabCut(image, mask, None, *models, self.config.iterations, cv2.GC_INIT_WITH_MASK)
        return (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)


@dataclass(frozen=True)
class SIFTConfig:
    batch_size: int = 64
    stride: int = 4  #: pixels between descriptors
    patch: float = 8.0  #: OpenCV's size of a keypoint: a descriptor sees about 6 times as much
    pixels: int = 100  #: sampled from each picture
    limit: int = 10_000  #: pictures, at most, that pixels are sampled from
    restarts: int = 10  #: of K-means, the best of which is kept


class SIFT(Clustering):
    """K-means of upright SIFT descriptors (Lowe, 2004) on a grid, of unit length."""

    Config = SIFTConfig

    def __init__(self, config: SIFTConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes, 128)
        if config.stride < 1:
            raise ValueError(f"`stride` must be at least 1, got {config.stride}")

    def features(self, batch: Batch) -> torch.Tensor:
        """(B,128,⌈H/stride⌉,⌈W/stride⌉), of the first three channels' mean."""
        grey = pixels(batch.images[:, :3].mean(1, keepdim=True))[..., 0]
        maps = [self._descriptors(image) for image in grey]
        return torch.from_numpy(np.stack(maps)).to(batch.images).permute(0, 3, 1, 2)

    def _descriptors(self, image: np.ndarray) -> np.ndarray:
        cv2, stride = opencv(), self.config.stride
        rows, columns = (np.arange(stride // 2, side + stride // 2, stride) for side in image.shape)
        # With an angle, or OpenCV looks for one.
        points = [
            cv2.KeyPoint(float(x), float(y), self.config.patch, 0.0) for y in rows for x in columns
        ]
        _, found = cv2.SIFT_create().compute(image, points)
        found = found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-6)
        return found.reshape(len(rows), len(columns), -1)
