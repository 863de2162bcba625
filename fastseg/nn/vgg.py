"""The small VGG of IIC, a backbone."""

import torch
import torch.nn.functional as F
from torch import nn

from ..checks import check_int, check_shape, check_tensor

__all__ = ["VGG"]


class VGG(nn.Module):
    """Six convolutions at full and half resolution, the last two dilated, and a 1×1 one; its map is
    enlarged bilinearly (the segmentation network of Ji et al., "Invariant Information Clustering",
    ICCV 2019).

    Args:
        in_channels: C, of the images.
        out_channels: K, of the map.
        width: channels of the first layer; the others have 2, 4, 4, 8 and 8 times as many.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    multiple = 1  #: sides need not be divisible by more

    def __init__(self, in_channels: int, out_channels: int, width: int = 64) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            check_int(name, value, 1)
        check_int("width", width, 1)
        self.in_channels = in_channels
        self.layers = nn.Sequential()
        before = in_channels
        for times, dilation in ((1, 1), (2, 1), (0, 0), (4, 1), (4, 1), (8, 2), (8, 2)):
            if not times:
                self.layers.append(nn.MaxPool2d(2))
                continue
            after = times * width
            conv = nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation, bias=False)
            self.layers.extend([conv, nn.BatchNorm2d(after), nn.ReLU()])
            before = after
        self.scores = nn.Conv2d(before, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) float, both sides at least 2 → (B,K,H,W)."""
        check_tensor("x", x)
        check_shape("x", x, (None, self.in_channels, None, None))
        if min(x.shape[2:]) < 2:
            raise ValueError(
                f"`x` must have a height and a width of at least 2, got {x.shape[2]}×{x.shape[3]}"
            )
        scores = self.scores(self.layers(x))
        return F.interpolate(scores, x.shape[2:], mode="bilinear", align_corners=False)
