"""IIC: Ji et al., "Invariant Information Clustering for Unsupervised Image Classification and
Segmentation", ICCV 2019."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from ..checks import check_choice
from ..data.base import Batch
from ..ops.joint import iic_loss
from .base import Method
from .networks import Backbone, backbone
from .views import flip, jitter, sobel

__all__ = ["IIC", "IICConfig"]


@dataclass(frozen=True)
class IICConfig:
    """The published configuration for COCO-Stuff-3; configs has the others."""

    lr: float = 1e-4
    batch_size: int = 120
    epochs: int = 100
    backbone: Backbone = "vgg"
    width: int = 64  #: of the backbone
    stride: int = 1  #: of the hourglass
    overclusters: int = 15  #: k_A, of head A; head B has a cluster for each class
    alternate: bool = True  #: train A in even epochs and B in odd ones; else both in each step
    lamb: float = 1.5  #: λ
    radius: int = 10  #: T, the largest displacement
    sobel: Literal["none", "beside", "alone"] = "beside"  #: derivatives beside the colours or alone
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.125
    flips: float = 0.5  #: share of the second views that are mirrored
    backend: str = "auto"  #: of the operators


class IIC(Method):
    """Clusters of pixels that say most of each other in two views of a picture and nearby."""

    Config = IICConfig
    variants = ("pixel",)

    def __init__(self, config: IICConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        check_choice("sobel", config.sobel, ("none", "beside", "alone"))
        # The 1×1 convolutions of both heads are one.
        self.network = backbone(
            config.backbone,
            {"none": channels, "beside": channels + 2, "alone": 2}[config.sobel],
            config.overclusters + classes,
            config.width,
            config.stride,
        )
        self.multiple = self.network.multiple

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """−I(y;y′) of head A or B, or the mean of both (Eq. 5, λ as in the published program)."""
        config = self.config
        colours = config.brightness, config.contrast, config.saturation, config.hue
        other = jitter(batch.images, batch.seeds, *colours)
        mirrored = self._scores(flip(other, batch.seeds, config.flips))
        views = [self._scores(batch.images), [flip(x, batch.seeds, config.flips) for x in mirrored]]
        epoch = int(progress * config.epochs + 1e-6)
        chosen = (epoch % 2,) if config.alternate else (0, 1)
        losses = {}
        for head in chosen:
            p, q = (scores[head].softmax(1) for scores in views)
            losses["AB"[head]] = iic_loss(
                p,
                q,
                config.radius,
                config.lamb,
                batch.valid,
                group=group,
                backend=config.backend,
            )
        mean = torch.stack(list(losses.values())).mean()
        return {"loss": mean, **{name: part.detach() for name, part in losses.items()}}

    def _scores(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Of head A and head B."""
        if self.config.sobel != "none":
            derivatives = sobel(images)
            alone = self.config.sobel == "alone"
            images = derivatives if alone else torch.cat((images, derivatives), 1)
        return self.network(images).split((self.config.overclusters, self.classes), 1)

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"pixel": self._scores(batch.images)[1].argmax(1)}
