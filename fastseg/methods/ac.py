"""AC: Ouali et al., "Autoregressive Unsupervised Image Segmentation", ECCV 2020."""

from dataclasses import dataclass
from typing import Any

import torch

from ..data.base import Batch
from ..ops.joint import iic_loss
from .ordered import Ordered, OrderedConfig

__all__ = ["AC", "ACConfig"]


@dataclass(frozen=True)
class ACConfig(OrderedConfig):
    """The paper's, where it names a value; what it leaves to a supplement is as IIC has it."""

    radius: int = 10  #: of Ω, the largest displacement
    lamb: float = 1.0  #: λ, the weight of the marginal entropies
    overclusters: int | None = None  #: K, if not the number of classes
    symmetric: bool = True  #: make the joint symmetric, as published; see docs/results/ac.md
    average: bool = False  #: predict also by the mean of what it says in all of O
    margin: int = 0  #: pixels along the borders that do not count in the loss


class AC(Ordered):
    """Clusters of pixels that say most of each other in two orderings of a picture and nearby.

    With more clusters than classes each cluster counts as its most frequent class.
    """

    Config = ACConfig

    def __init__(self, config: ACConfig, channels: int, classes: int) -> None:
        clusters = classes if config.overclusters is None else config.overclusters
        super().__init__(config, channels, classes, clusters)
        if clusters > classes:
            self.matching = "many_to_one"
        if config.average:
            self.variants = ("pixel", "orderings")

    @property
    def clusters(self) -> int:
        return self.network.num_classes

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """−I(y;y′) (Eq. 6) over displacements, as IIC has it."""
        p, q = (scores.softmax(1) for scores in self.views(batch))
        config, height, width = self.config, *batch.images.shape[2:]
        # Near the borders zeros beyond them tell all orderings where a pixel is.
        inner = torch.zeros_like(batch.valid)
        inner[:, config.margin : height - config.margin, config.margin : width - config.margin] = (
            True
        )
        way = {"symmetric": config.symmetric, "group": group, "backend": config.backend}
        return {"loss": iic_loss(p, q, config.radius, config.lamb, batch.valid & inner, **way)}

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        found = super().predict(batch)
        if self.config.average:
            maps = self.network(batch.images, self._chosen)
            found["orderings"] = torch.stack([y.softmax(1) for y in maps]).mean(0).argmax(1)
        return found
