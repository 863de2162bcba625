"""AIR, the argmax individual reconstruction model of the thesis on CIRS (`cirs`), §10."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..data.base import Batch
from .base import Method
from .cirs import Connected, Segmenter
from .networks import squared_error

__all__ = ["AIR", "AIRConfig"]


@dataclass(frozen=True)
class AIRConfig:
    """The thesis', where it names a value."""

    lr: float = 1e-3
    batch_size: int = 40
    epochs: int = 170
    width: int = 64  #: of the UNet
    side: int = 64  #: of the pictures in training, which are square
    hidden: tuple[int, ...] = (256,)  #: widths of the encoders' layers, and backwards the decoders'
    bottleneck: int = 16
    dropout: float = 0.4
    through: bool = False  #: let the gradient through the remask, too, which the thesis stops


class Autoencoders(nn.ModuleList):
    """One for each segment."""

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """(B,K,…) → (B,K,…)."""
        segments = seen.flatten(2).unbind(1)
        return torch.stack([net(x) for net, x in zip(self, segments, strict=True)], 1).view_as(seen)


class AIR(Method):
    """Segments of which each can be drawn again by an autoencoder of its own from few numbers."""

    Config = AIRConfig
    variants = ("pixel",)

    def __init__(self, config: AIRConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        self.segmenter = Segmenter(channels, classes, config.width)
        self.multiple = self.segmenter.multiple
        half = channels * config.side**2, *config.hidden
        widths = *half, config.bottleneck, *reversed(half)
        self.autoencoders = Autoencoders(Connected(widths, config.dropout) for _ in range(classes))

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """Mean squared error of the segments' reconstructions, put together."""
        return {"loss": squared_error(self.reconstruct(batch), batch, group)}

    def reconstruct(self, batch: Batch) -> torch.Tensor:
        """(B,C,H,W): of each pixel what its segment's autoencoder makes of it.

        S has its gradient through what the autoencoders see. Unless `through`, it has none through
        the choice of which of them draws a pixel, the remask.
        """
        masks, seen = self.segmenter.cut(batch, self.config.side)
        masks = masks if self.config.through else masks.detach()
        return (self.autoencoders(seen) * masks[:, :, None]).sum(1)

    def features(self, batch: Batch) -> torch.Tensor:
        return self.segmenter(batch.images)

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"pixel": self.features(batch).argmax(1)}
