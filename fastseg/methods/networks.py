"""The backbones by name, and a backbone with a head on regions."""

from typing import Any, Literal, get_args

import torch
from torch import nn

from ..checks import check_choice
from ..data.base import Batch
from ..distributed import sum_over
from ..nn import VGG, Hourglass, RegionEmbedding, UNet
from ..ops.region import RegionIndex

__all__ = ["Backbone", "RegionNetwork", "backbone", "squared_error"]

Backbone = Literal["hourglass", "unet", "vgg"]


def backbone(
    name: Backbone, in_channels: int, out_channels: int, width: int = 64, stride: int = 1
) -> Hourglass | UNet | VGG:
    """From pictures (B,C,H,W) to maps (B,K,H,W); `stride` is of the hourglass alone."""
    check_choice("backbone", name, get_args(Backbone))
    if name == "hourglass":
        return Hourglass(in_channels, out_channels, width, stride=stride)
    if stride != 1:
        raise ValueError(f'`stride` must be 1 for backbone "{name}", got {stride}')
    return (UNet if name == "unet" else VGG)(in_channels, out_channels, width)


class RegionNetwork(nn.Module):
    """A vector for each region of a picture."""

    def __init__(self, backbone: nn.Module, head: RegionEmbedding) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: torch.Tensor, regions: RegionIndex) -> torch.Tensor:
        """(B,C,H,W) → (B,D,R)."""
        return self.head(self.backbone(images), regions).mT


def squared_error(drawn: torch.Tensor, batch: Batch, group: Any = None) -> torch.Tensor:
    """Mean over the valid pixels of all ranks of the squared distance to the picture's colours."""
    valid = batch.valid[:, None]
    total = ((drawn - batch.images) * valid).square().sum()
    total, pixels = sum_over(torch.stack((total, valid.sum().to(total))), group)
    return total / pixels.clamp(min=1)
