"""What a method must beat, and what it cannot: a random network, K-means, a supervised UNet."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from ..data.base import Batch
from ..distributed import sum_over
from .base import Method
from .clustering import closeness, k_means, sample
from .networks import Backbone, backbone

__all__ = [
    "Clustering",
    "KMeans",
    "KMeansConfig",
    "Random",
    "RandomConfig",
    "Supervised",
    "SupervisedConfig",
]


@dataclass(frozen=True)
class RandomConfig:
    batch_size: int = 64
    backbone: Backbone = "vgg"
    width: int = 64  #: of the backbone
    stride: int = 1  #: of the hourglass


class Random(Method):
    """A network as it was initialised."""

    Config = RandomConfig
    variants = ("pixel",)
    gradient = False

    def __init__(self, config: RandomConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        self.network = backbone(config.backbone, channels, classes, config.width, config.stride)
        self.multiple = self.network.multiple

    def fit(self, batches: Iterable[Batch]) -> None:
        """Nothing."""

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"pixel": self.network(batch.images).argmax(1)}


@dataclass(frozen=True)
class KMeansConfig:
    batch_size: int = 64
    features: Literal["pixels", "network"] = "pixels"  #: colours, or a random network's
    pixels: int = 100  #: sampled from each picture
    limit: int = 10_000  #: pictures, at most, that pixels are sampled from
    restarts: int = 10  #: the best of which is kept
    backbone: Backbone = "vgg"  #: of features "network"
    width: int = 64
    stride: int = 1
    depth: int = 64  #: channels of the network's map


class Clustering(Method):
    """K-means of `features`; scikit-learn's MiniBatchKMeans.

    Args:
        config: it has `pixels`, `limit` and `restarts`.
        length: D, of the features.
    """

    variants = ("pixel",)
    gradient = False
    centres: torch.Tensor  #: (K,D)

    def __init__(self, config: Any, channels: int, classes: int, length: int) -> None:
        super().__init__(config, channels, classes)
        self.register_buffer("centres", torch.full((classes, length), torch.nan))

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch]) -> None:
        self.eval()
        config = self.config
        x, _ = sample(self.features, batches, config.pixels, config.limit, self.classes)
        self.centres.copy_(k_means(x, self.classes, config.restarts))

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        nearest = closeness(self.features(batch), self.centres)
        if nearest.shape[2:] != batch.valid.shape[1:]:
            size = batch.valid.shape[1:]
            nearest = F.interpolate(nearest, size, mode="bilinear", align_corners=False)
        return {"pixel": nearest.argmax(1)}


class KMeans(Clustering):
    """K-means of the pixels' colours or features."""

    Config = KMeansConfig

    def __init__(self, config: KMeansConfig, channels: int, classes: int) -> None:
        of_network = config.features == "network"
        super().__init__(config, channels, classes, config.depth if of_network else channels)
        self.network: torch.nn.Module = torch.nn.Identity()
        if of_network:
            size = config.width, config.stride
            self.network = backbone(config.backbone, channels, config.depth, *size)
            self.multiple = self.network.multiple

    def features(self, batch: Batch) -> torch.Tensor:
        return self.network(batch.images)


@dataclass(frozen=True)
class SupervisedConfig:
    lr: float = 1e-3
    decay: float = 0.96  #: of the learning rate, each epoch
    batch_size: int = 16
    epochs: int = 30
    backbone: Backbone = "unet"
    width: int = 64  #: of the backbone
    stride: int = 1  #: of the hourglass


class Supervised(Method):
    """A backbone trained on the truth: the upper bound."""

    Config = SupervisedConfig
    variants = ("pixel",)
    supervised = True

    def __init__(self, config: SupervisedConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        self.network = backbone(config.backbone, channels, classes, config.width, config.stride)
        self.multiple = self.network.multiple

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """Cross-entropy over the valid pixels that have a class."""
        if batch.labels is None:
            raise ValueError("`batch` must have labels for a supervised method, got none")
        labels = batch.labels.masked_fill(~batch.valid, -1)
        scores = self.network(batch.images)
        total = F.cross_entropy(scores, labels, ignore_index=-1, reduction="sum")
        total, pixels = sum_over(torch.stack((total, (labels >= 0).sum().to(total))), group)
        return {"loss": total / pixels.clamp(min=1)}

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"pixel": self.network(batch.images).argmax(1)}
