"""InfoSeg's training step as a user would write it from the paper, every feature stored."""

import torch
from torch import nn

from fastseg.data.base import Batch
from fastseg.methods import InfoSeg
from fastseg.nn import InfoSegNet
from fastseg.ops.scoring import _reference
from fastseg.ops.scoring._draw import derangement


class Residual(nn.Module):
    """Block C, of 1×1 convolutions."""

    def __init__(self, inside: nn.Linear, outside: nn.Linear) -> None:
        super().__init__()
        features, channels = inside.weight.shape
        self.first = nn.Conv2d(channels, features, 1)
        self.second = nn.Conv2d(features, features, 1, bias=False)
        self.shortcut = nn.Conv2d(channels, features, 1, bias=False)
        state = {"first.bias": inside.bias, "first.weight": inside.weight[..., None, None]}
        weights = outside.weight[..., None, None].split((features, channels), 1)
        state |= {"second.weight": weights[0], "shortcut.weight": weights[1]}
        self.load_state_dict(state)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x))) + self.shortcut(x)


class Plain(nn.Module):
    """The objective of an `InfoSeg`, with its weights."""

    def __init__(self, method: InfoSeg) -> None:
        super().__init__()
        net: InfoSegNet = method.network
        self.config, self.classes = method.config, method.classes
        self.patches, self.picture, self.heads = net.patches, net.picture, net.heads
        self.local = Residual(net.local.inside, net.local.outside)
        self.glob = Residual(net.glob.inside, net.glob.outside)

    def loss(self, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        patches = self.patches(batch.images)
        picture = self.glob(self.picture(patches).mean((2, 3), keepdim=True))
        glob = self.heads(picture.flatten(1)).unflatten(1, (self.classes, -1))
        partner = derangement(len(glob), None, glob.device)
        way = self.config.tau, self.config.objective, self.config.assignment
        return {"loss": _reference.infoseg_loss(self.local(patches), glob, partner, *way)}
