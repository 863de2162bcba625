"""AC's training step as a user would write it: the whole network for each view, with masked weights
and a stored mask, and the joint of IIC's published program, all by autograd."""

import torch

from fastseg.data.base import Batch
from fastseg.methods import AC
from fastseg.orderings import sample_pair

from . import autoregressive
from .joint import conv2d_loss


class PlainAC(torch.nn.Module):
    """The objective of an `AC` of λ = 1 without transforms, with its weights."""

    def __init__(self, method: AC) -> None:
        super().__init__()
        self.config, self.network = method.config, method.network
        self.orderings = method.orderings.tolist()
        self.kept: dict[int, autoregressive.Masks] = {}

    def masks(self, images: torch.Tensor, ordering: int) -> autoregressive.Masks:
        """Made once for a size of pictures, which all have."""
        if ordering not in self.kept:
            height, width = (-(-side // self.config.stride) for side in images.shape[2:])
            place = str(images.device), images.dtype
            self.kept[ordering] = autoregressive.masks(height, width, (ordering,), *place)
        return self.kept[ordering]

    def loss(self, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        views: list[torch.Tensor] = []
        for ordering in sample_pair(self.orderings, self.config.sampling):
            kept = self.masks(batch.images, ordering)
            scores = autoregressive.forward(self.network, batch.images, ordering, kept)
            views.append(scores.softmax(1))
        p, q = views
        return {"loss": conv2d_loss(p, q, self.config.radius, per_displacement=True)}
