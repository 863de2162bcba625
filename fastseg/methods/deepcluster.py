"""DeepCluster on patches: Caron et al., "Deep Clustering for Unsupervised Learning of Visual
Features", ECCV 2018, of what surrounds each pixel in place of pictures."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..data.base import Batch
from ..distributed import sum_over
from .base import Method
from .clustering import closeness, k_means, sample, whitening
from .networks import Backbone, backbone
from .views import jitter

__all__ = ["DeepCluster", "DeepClusterConfig"]


@dataclass(frozen=True)
class DeepClusterConfig:
    """The rates are IIC's for its network; the paper's are for pictures."""

    lr: float = 1e-4
    batch_size: int = 64
    epochs: int = 10
    backbone: Backbone = "vgg"
    width: int = 64  #: of the backbone
    stride: int = 1  #: of the hourglass
    depth: int = 64  #: features of a patch
    components: int = 64  #: that the PCA before K-means keeps, at most
    pseudo_classes: int = 0  #: clusters that it learns from; 0: ten times the classes
    pixels: int = 100  #: of each picture that K-means sees
    limit: int = 1000  #: pictures, at most, that K-means sees
    restarts: int = 3  #: of K-means, the best of which is kept
    brightness: float = 0.4  #: of the change of colours that the network sees, but not K-means
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.125


class Clusters(nn.Module):
    """K-means of whitened features of unit length."""

    mean: torch.Tensor  #: (D,)
    matrix: torch.Tensor  #: (D,M)
    centres: torch.Tensor  #: (K,M)

    def __init__(self, count: int, length: int, components: int) -> None:
        super().__init__()
        kept = min(components, length)
        self.register_buffer("mean", torch.zeros(length))
        self.register_buffer("matrix", torch.eye(length, kept))
        self.register_buffer("centres", torch.zeros(count, kept))

    def fit(self, x: torch.Tensor, restarts: int) -> None:
        """From features (N,D)."""
        mean, matrix = whitening(x, self.matrix.shape[1])
        self.mean.copy_(mean)
        self.matrix.copy_(matrix)
        z = F.normalize((x - self.mean) @ self.matrix)
        self.centres.copy_(k_means(z, len(self.centres), restarts))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B,D,H,W) → (B,H,W) int64."""
        x = features - self.mean[:, None, None]
        z = F.normalize(torch.einsum("dm,bdhw->bmhw", self.matrix, x))
        return closeness(z, self.centres).argmax(1)


class DeepCluster(Method):
    """A network that learns the clusters of its own features, which each epoch begins with anew.

    Labels come from a copy of the network as the epoch began, so that a run which was stopped in
    its midst goes on with the same ones.
    """

    Config = DeepClusterConfig
    variants = ("pixel",)

    def __init__(self, config: DeepClusterConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        count = config.pseudo_classes or 10 * classes
        self.network = backbone(
            config.backbone, channels, config.depth, config.width, config.stride
        )
        self.multiple = self.network.multiple
        self.classifier = nn.Conv2d(config.depth, count, 1)
        self.teacher = deepcopy(self.network).requires_grad_(False)
        self.lesson = Clusters(count, config.depth, config.components)
        self.clustering = Clusters(classes, config.depth, config.components)

    @torch.no_grad()
    def renew(self, batches: Iterable[Batch]) -> None:
        self.teacher.load_state_dict(self.network.state_dict())
        self._cluster(self.lesson, batches)
        self.classifier.reset_parameters()  # the clusters have other numbers now

    @torch.no_grad()
    def prepare(self, batches: Iterable[Batch]) -> None:
        self._cluster(self.clustering, batches)

    def _cluster(self, clusters: Clusters, batches: Iterable[Batch]) -> None:
        config, training = self.config, self.training
        self.eval()
        least = len(clusters.centres)
        x, _ = sample(self.features, batches, config.pixels, config.limit, least)
        self.train(training)
        clusters.fit(x, config.restarts)

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """Cross-entropy of the valid pixels' clusters, those of the epoch's beginning."""
        config = self.config
        change = config.brightness, config.contrast, config.saturation, config.hue
        with torch.no_grad():
            labels = self.lesson(self.teacher.eval()(batch.images))
        scores = self.classifier(self.network(jitter(batch.images, batch.seeds, *change)))
        labels = labels.masked_fill(~batch.valid, -1)
        total = F.cross_entropy(scores, labels, ignore_index=-1, reduction="sum")
        total, count = sum_over(torch.stack((total, batch.valid.sum().to(total))), group)
        return {"loss": total / count.clamp(min=1)}

    def features(self, batch: Batch) -> torch.Tensor:
        return self.network(batch.images)

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"pixel": self.clustering(self.features(batch))}
