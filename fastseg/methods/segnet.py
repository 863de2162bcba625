"""IEM and IEM+SegNet: Savarese et al., "Information-Theoretic Segmentation by Inpainting Error
Maximization", CVPR 2021."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from ..data.base import Batch
from ..data.cache import ArrayCache
from ..distributed import sum_over
from ..nn import PSPNet
from ..ops.inpaint import IEMResult, iem
from .base import Method

__all__ = ["IEM", "IEMConfig", "SegNet", "SegNetConfig"]


@dataclass(frozen=True)
class Phase1:
    """The arguments of `fastseg.iem`; the defaults are the authors'."""

    init: tuple[int, ...] = (44, 78, 92)  #: sides of squares, of a shorter side of 128 pixels
    iterations: int = 150
    lamb: float = 0.001  #: λ
    smoothing: Literal["authors", "paper", "none"] = "authors"
    boundary_only: bool = True

    @property
    def arguments(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(Phase1)}

    def run(self, images: torch.Tensor, **changes: Any) -> IEMResult:
        """Of pictures of values 0 … 1."""
        return iem(images, **{**self.arguments, **changes})


@dataclass(frozen=True)
class IEMConfig(Phase1):
    """The first phase alone."""

    batch_size: int = 64


class IEM(Method):
    """Masks by inpainting error maximisation, of each picture by itself."""

    Config = IEMConfig
    variants = ("mask",)
    binary = True
    gradient = False

    def fit(self, batches: Iterable[Batch]) -> None:
        """Nothing."""

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"mask": self.config.run(batch.images).masks[:, 0].long()}


@dataclass(frozen=True)
class SegNetConfig(Phase1):
    """The paper's; the width is ReDO's."""

    lr: float = 1e-3
    decay: float = 1.0  #: of the learning rate, each epoch
    batch_size: int = 128
    epochs: int = 50
    masks: int = 8000  #: of the highest inpainting error, to learn from
    width: int = 64  #: of the network


class SegNet(Method):
    """A network that learns from the masks of highest inpainting error, and IEM from its masks."""

    Config = SegNetConfig
    variants = ("network", "refined")
    binary = True
    pseudo = True

    def __init__(self, config: SegNetConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        if config.masks < 1:
            raise ValueError(f"`masks` must be at least 1, got {config.masks}")
        self.network = PSPNet(channels, 1, config.width)
        self.multiple = self.network.multiple

    def label(self, batches: Iterable[Batch], cache: ArrayCache) -> dict[int, np.ndarray]:
        """The masks of the first phase with the highest inpainting error, without deviations."""
        errors: list[float] = []
        labels: list[torch.Tensor] = []
        for batch in batches:
            masks = self._masks(batch.images, cache)
            # No update: the error of the mask as it is.
            errors += self.config.run(batch.images, init=masks, iterations=0).error.tolist()
            labels += masks[:, 0].to(torch.int8).masked_fill_(~batch.valid, -1).cpu().unbind()
        best = np.argsort(-np.array(errors), kind="stable")[: self.config.masks]
        return {int(place): labels[place].numpy() for place in sorted(best)}

    def _masks(self, images: torch.Tensor, cache: ArrayCache) -> torch.Tensor:
        """(B,1,H,W) bool, of the first phase."""
        shape = len(images), 1, *images.shape[2:]
        parameters = {"operator": "iem", **self.config.arguments}
        found = cache.get(
            images.cpu().numpy(),
            parameters,
            shape,
            lambda: self.config.run(images).masks.cpu().numpy(),
        )
        return torch.from_numpy(np.array(found)).to(images.device)

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """Binary cross-entropy over the valid pixels."""
        if batch.labels is None:
            raise ValueError("`batch` must have labels, which `label` makes, got none")
        known = batch.valid & (batch.labels >= 0)
        scores = self.network(batch.images)[:, 0]
        target = (batch.labels > 0).to(scores)
        total = F.binary_cross_entropy_with_logits(
            scores, target, known.to(scores), reduction="sum"
        )
        total, pixels = sum_over(torch.stack((total, known.sum().to(total))), group)
        return {"loss": total / pixels.clamp(min=1)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.network(images)[:, 0] > 0).long()

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        masks = self(batch.images)
        refined = self.config.run(batch.images, init=masks[:, None] > 0).masks[:, 0]
        return {"network": masks, "refined": refined.long()}
