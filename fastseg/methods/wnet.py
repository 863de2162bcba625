"""W-Net: Xia and Kulis, "W-Net: A Deep Model for Fully Unsupervised Image Segmentation", 2017."""

from dataclasses import dataclass
from typing import Any

import torch

from ..data.base import Batch
from ..distributed import sum_over
from ..nn import UNet
from ..ops.ncut import soft_ncut
from .base import Method
from .cirs import Segmenter
from .networks import squared_error

__all__ = ["WNet", "WNetConfig"]


@dataclass(frozen=True)
class WNetConfig:
    """Training as in the thesis on CIRS (`cirs`), §8; the cut as in the paper."""

    lr: float = 1e-3
    batch_size: int = 40
    epochs: int = 170
    width: int = 64  #: of both UNets
    lamb: float = 1.0  #: λ, weight of the cut beside the reconstruction
    radius: int = 5  #: of the cut, in pixels
    sigma_color: float = 10.0  #: σ_I, of 255
    sigma_space: float = 4.0  #: σ_X, pixels
    backend: str = "auto"  #: of the operators


class WNet(Method):
    """Segments of one colour each that a second UNet can draw the picture from."""

    Config = WNetConfig
    variants = ("pixel",)

    def __init__(self, config: WNetConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        self.encoder = Segmenter(channels, classes, config.width)
        self.decoder = UNet(classes, channels, config.width)
        self.multiple = self.encoder.multiple

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """Reconstruction + λ·(soft normalised cut), in one step where the paper takes one each."""
        config = self.config
        p = self.encoder(batch.images).softmax(1)
        reconstruction = squared_error(self.decoder(p), batch, group)
        cuts = soft_ncut(
            p * batch.valid[:, None],
            batch.images,
            config.radius,
            config.sigma_color,
            config.sigma_space,
            backend=config.backend,
        )
        total = sum_over(torch.stack((cuts.sum(), cuts.new_full((), len(cuts)))), group)
        cut = total[0] / total[1]
        return {
            "loss": reconstruction + config.lamb * cut,
            "reconstruction": reconstruction.detach(),
            "cut": cut.detach(),
        }

    def features(self, batch: Batch) -> torch.Tensor:
        return self.encoder(batch.images)

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"pixel": self.features(batch).argmax(1)}
