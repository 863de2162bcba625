"""The autoencoder study of the thesis on CIRS (`cirs`), §9.1: a narrow bottleneck spreads classes,
though no label is seen."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ..data.base import Batch
from ..distributed import sum_over
from .base import Method
from .cirs import Connected, between_classes

__all__ = ["Autoencoder", "AutoencoderConfig"]


@dataclass(frozen=True)
class AutoencoderConfig:
    """The thesis', where it names a value."""

    lr: float = 1e-3
    batch_size: int = 40
    epochs: int = 50
    side: int = 32  #: of the pictures it sees; others are brought to it
    hidden: tuple[int, int, int] = (1024, 512, 256)  #: widths of the encoder, then the decoder's
    bottleneck: int = 12  #: b; in Table 4 192, 96, 48 and 12
    dropout: float = 0.2


class Autoencoder(Method):
    """Eight fully connected layers that draw pictures again from b numbers.

    A picture is one segment: `predict` gives it the number of its largest entry in the bottleneck.
    """

    Config = AutoencoderConfig
    variants = ("picture",)

    def __init__(self, config: AutoencoderConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        half = channels * config.side**2, *config.hidden
        self.encoder = Connected((*half, config.bottleneck), config.dropout, norm=False)
        widths = config.bottleneck, *reversed(half)
        self.decoder = Connected(widths, config.dropout, norm=False)

    @property
    def clusters(self) -> int:
        return self.config.bottleneck

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """Mean squared error."""
        pictures = self._pictures(batch)
        drawn = self.decoder(self.encoder(pictures))
        error = (drawn - pictures).square().mean(1)
        total, count = sum_over(torch.stack((error.sum(), error.new_full((), len(error)))), group)
        return {"loss": total / count}

    def _pictures(self, batch: Batch) -> torch.Tensor:
        """(B,C·side²)."""
        images = batch.images * batch.valid[:, None]
        return F.adaptive_avg_pool2d(images, self.config.side).flatten(1)

    def measure(self, batches: Iterable[Batch]) -> dict[str, float]:
        """α₂ of CIRS: how far the mean codes of classes, the folders in pictures' keys, spread; and
        the same for each of the b numbers of a code, as the thesis may have meant it."""
        codes: dict[str, list[torch.Tensor]] = {}
        for batch in batches:
            for key, code in zip(batch.keys, self.encoder(self._pictures(batch)), strict=True):
                codes.setdefault(key.rpartition("/")[0], []).append(code.double())
        means = torch.stack([torch.stack(of_class).mean(0) for of_class in codes.values()])
        alpha2 = between_classes(means).item()
        return {"alpha2": alpha2, "alpha2_per_number": alpha2 / self.config.bottleneck}

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        label = self.encoder(self._pictures(batch)).argmax(1)
        return {"picture": label[:, None, None].expand(batch.valid.shape)}
