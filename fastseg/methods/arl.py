"""ARL: Ouali et al., "Autoregressive Unsupervised Image Segmentation", ECCV 2020."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..data.base import Batch
from ..nn import Critic
from ..ops.scoring import info_nce
from .clustering import k_means, sample, whitening
from .ordered import Ordered, OrderedConfig

__all__ = ["ARL", "ARLConfig"]


@dataclass(frozen=True)
class ARLConfig(OrderedConfig):
    """The paper's, where it names a value; what it leaves to a supplement was chosen here."""

    radius: int = 1  #: of Ω, the largest displacement of a positive, in features
    positions: int = 64  #: drawn from each picture's features
    dimensions: int = 1024  #: of the critics' space
    layers: int = 2  #: 3×3 convolutions of a critic
    components: int = 64  #: that the PCA before K-means keeps, at most
    pixels: int = 100  #: of each picture that K-means sees
    limit: int = 1000  #: pictures, at most, that K-means sees
    restarts: int = 10  #: of K-means, the best of which is kept


class ARL(Ordered):
    """Features that tell the same place in two orderings from those of other pictures.

    K-means of the whitened features, which `prepare` finds, makes clusters of them. Whitening and
    the comparison with the centres are an affine map of a feature: the network's decoder.
    """

    Config = ARLConfig

    def __init__(self, config: ARLConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes, classes)
        self.network.decoder.requires_grad_(False)
        size = self.network.channels, config.dimensions, config.layers
        self.critics = nn.ModuleList(Critic(*size) for _ in range(2))  # φ₁, φ₂

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """−I_NCE (Eq. 7), with negatives from other pictures; they are drawn from all pixels."""
        # First of all, as what dropout draws depends on the rank's share of the batch.
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        a, b = (critic(y) for critic, y in zip(self.critics, self.views(batch, False), strict=True))
        config = self.config
        return {"loss": info_nce(a, b, config.positions, config.radius, generator, group)}

    @torch.no_grad()
    def prepare(self, batches: Iterable[Batch]) -> None:
        config, training = self.config, self.training
        self.eval()
        x, _ = sample(self.features, batches, config.pixels, config.limit, self.classes)
        self.train(training)
        mean, matrix = whitening(x, config.components)
        centres = k_means((x.double() - mean) @ matrix, self.classes, config.restarts)
        # The nearest centre c of z = Wᵀ(x − μ) has the largest ⟨c,z⟩ − ½|c|².
        weight = centres @ matrix.T
        bias = -(weight @ mean) - centres.square().sum(1) / 2
        state = {"weight": weight[..., None, None], "bias": bias}
        self.network.decoder.load_state_dict(state)
