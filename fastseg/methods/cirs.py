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
    "Connected",
    "Segmenter",
    "between_classes",
    "class_means",
    "describe",
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
    """S: a UNet that gives each pixel a score for each segment (§6)."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__(channels, classes, width, smooth=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) → (B,K,H,W)."""
        return super().forward(images.contiguous(memory_format=torch.channels_last))

    def cut(self, batch: Batch, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks (B,K,H,W) of the valid pixels of each segment, 0 or 1 with the gradient of a
        softmax, and the pictures (B,K,C,H,W) seen through them, of values −½ … ½ with 0 around."""
        check_shape("batch.images", batch.images, (None, None, side, side))
        masks = argmax_in_place(self(batch.images).softmax(1)) * batch.valid[:, None]
        return masks, masks[:, :, None] * (batch.images - 0.5)[:, None]


class Connected(nn.Module):
    """Fully connected layers; batch norm, unless without, ReLU and dropout between them."""

    def __init__(self, widths: Sequence[int], dropout: float, norm: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for i, (before, after) in enumerate(pairwise(widths)):
            if i:
                self.layers.extend([nn.BatchNorm1d(before)] if norm else [])
                self.layers.extend([nn.ReLU(), nn.Dropout(dropout)])
            self.layers.append(nn.Linear(before, after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N,in) → (N,out)."""
        return self.layers(x)


def describe(g: nn.Module, seen: torch.Tensor, numbered: bool = True) -> torch.Tensor:
    """(B,K,C,H,W) → (B,K,D): what g makes of segments and, if `numbered`, their numbers, else 0."""
    numbers = torch.arange(seen.shape[1], dtype=seen.dtype, device=seen.device) * numbered
    x = torch.cat((seen.flatten(2), numbers.expand(len(seen), -1)[..., None]), 2)
    features: torch.Tensor = g(x.flatten(0, 1))
    return features.unflatten(0, x.shape[:2])


def class_means(features: torch.Tensor, group: Any = None) -> torch.Tensor:
    """ḡ_k: of features (B,K,D) the means (K,D) over all pictures of all ranks."""
    count = sum_over(features.new_full((), len(features)), group)
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
        self.g = Connected((length, *config.hidden, config.features), config.dropout)
        # Else g could scale its features, and the loss with them, without end.
        self.g.layers.append(nn.BatchNorm1d(config.features, affine=False))

    def resting(self, step: int) -> Iterable[nn.Module]:
        """S and g learn in turns (§7.4), or both in each step (§6)."""
        of_s, of_g = self.config.turns
        if of_s + of_g == 0:
            return ()
        return (self.g,) if step % (of_s + of_g) < of_s else (self.segmenter,)

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """α₁·(variance within classes) − α₂·(variance between them) (§5)."""
        features = self.describe(batch)
        means = class_means(features, group)
        within, between = within_classes(features, means, group), between_classes(means)
        first, second = self.config.alpha
        return {
            "loss": first * within - second * between,
            "within": within.detach(),
            "between": between.detach(),
        }

    def describe(self, batch: Batch) -> torch.Tensor:
        """(B,K,D): what g makes of the pixels of each segment, the others grey, and its number."""
        _, seen = self.segmenter.cut(batch, self.config.side)
        return describe(self.g, seen)

    def features(self, batch: Batch) -> torch.Tensor:
        return self.segmenter(batch.images)

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"pixel": self.features(batch).argmax(1)}
