"""CIRS: Bishop, "Unsupervised Semantic Segmentation through Cross-Instance Representation
Similarity", thesis, Worcester Polytechnic Institute, 2020."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from ..checks import check_shape
from ..data.base import Batch
from ..distributed import sum_over
from ..nn import UNet
from ..ops.argmax import argmax_in_place
from .base import Method

__all__ = [
    "CIRS",
    "CIRSConfig",
    "Segmenter",
    "between_classes",
    "class_means",
    "connected",
    "within_classes",
]


@dataclass(frozen=True)
class CIRSConfig:
    """The thesis', where it names a value."""

    lr: float = 1e-3
    batch_size: int = 40
    epochs: int = 170
    width: int = 64  #: of the UNet
    side: int = 64  #: of the pictures in training, which are square
    hidden: tuple[int, ...] = (256,)  #: widths of g's layers
    features: int = 64  #: numbers by which g describes a segment
    dropout: float = 0.4
    turns: tuple[int, int] = (5, 100)  #: batches that S, and then g, learns from; 0 0: both always
    alpha: tuple[float, float] = (1.0, 1.0)  #: α₁, α₂: of the variance within, and between classes


class Segmenter(UNet):
    """S: a UNet that puts each pixel in one segment (§6)."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) → masks (B,K,H,W) of 0 and 1, with the gradient of a softmax."""
        images = images.contiguous(memory_format=torch.channels_last)  # which oneDNN is faster in
        return argmax_in_place(super().forward(images).softmax(1))

    def cut(self, batch: Batch, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The masks of the valid pixels, and the pictures (B,K,C,H,W) seen through each."""
        check_shape("batch.images", batch.images, (None, None, side, side))
        masks = self(batch.images) * batch.valid[:, None]
        return masks, masks[:, :, None] * batch.images[:, None]


def connected(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Fully connected layers; batch norm, ReLU and dropout between them."""
    layers = nn.Sequential()
    for before, after in pairwise(widths):
        layers.extend([nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()])
        layers.append(nn.Dropout(dropout))
    return layers[:-3]


def class_means(features: torch.Tensor, group: Any = None) -> torch.Tensor:
    """ḡ_k: of features (B,K,D) the means (K,D) over all pictures of all ranks."""
    count = sum_over(features.new_tensor(len(features)), group)
    return sum_over(features.sum(0), group) / count


def within_classes(features: torch.Tensor, means: torch.Tensor, group: Any = None) -> torch.Tensor:
    """1/K·Σ_k Σ_i ‖g_ik − ḡ_k‖², the first term of §5."""
    return sum_over((features - means).square().sum(), group) / len(means)


def between_classes(means: torch.Tensor) -> torch.Tensor:
    """Σ_k ‖ḡ_k − 1/K·Σ_l ḡ_l‖², the second term of §5."""
    return (means - means.mean(0)).square().sum()


class CIRS(Method):
    """Segments of which a second network finds that each is alike in all pictures and unlike the
    others."""

    Config = CIRSConfig
    variants = ("pixel",)

    def __init__(self, config: CIRSConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        self.segmenter = Segmenter(channels, classes, config.width)
        self.multiple = self.segmenter.multiple
        length = channels * config.side**2 + 1
        self.g = connected((length, *config.hidden, config.features), config.dropout)
        # Else g could scale its features, and the loss with them, without end.
        self.g.append(nn.BatchNorm1d(config.features, affine=False))

    def resting(self, step: int) -> Iterable[nn.Module]:
        """S and g learn in turns (§7.4), or both in each step (§6)."""
        of_s, of_g = self.config.turns
        if of_s + of_g == 0:
            return ()
        return (self.g,) if step % (of_s + of_g) < of_s else (self.segmenter,)

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """α₁·(variance within classes) − α₂·(variance between them) (§5)."""
        features = self.features(batch)
        means = class_means(features, group)
        within, between = within_classes(features, means, group), between_classes(means)
        first, second = self.config.alpha
        return {
            "loss": first * within - second * between,
            "within": within.detach(),
            "between": between.detach(),
        }

    def features(self, batch: Batch) -> torch.Tensor:
        """(B,K,D): what g makes of the pixels of each segment, the others black, and its number."""
        _, seen = self.segmenter.cut(batch, self.config.side)
        numbers = torch.arange(self.classes).to(seen).expand(len(seen), -1)
        seen = torch.cat((seen.flatten(2), numbers[..., None]), 2)
        return self.g(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"pixel": self.segmenter(batch.images).argmax(1)}
