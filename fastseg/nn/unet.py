"""The UNet, a backbone."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from ..checks import check_int, check_shape, check_tensor

__all__ = ["UNet"]


def double_conv(channels: int, out_channels: int) -> nn.Sequential:
    layers = nn.Sequential()
    for before in (channels, out_channels):
        conv = nn.Conv2d(before, out_channels, 3, padding=1, bias=False)
        layers.extend([conv, nn.BatchNorm2d(out_channels), nn.ReLU()])
    return layers


def twice(channels: int, out_channels: int, smooth: bool) -> nn.Module:
    """Twice the resolution, in fewer channels."""
    if not smooth:
        return nn.ConvTranspose2d(channels, out_channels, 2, 2)
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1), nn.Upsample(scale_factor=2, mode="bilinear")
    )


class UNet(nn.Module):
    """Down and up again, with what was there before halving beside it (Ronneberger et al., "U-Net",
    MICCAI 2015); padded, so that the map has the input's size, and with batch norm.

    Args:
        in_channels: C, of the images.
        out_channels: K, of the map.
        width: channels at full resolution; twice as many after each halving.
        depth: times that the resolution is halved, an odd side rounded down.
        smooth: double it again by bilinear interpolation, where a transposed convolution can tell
            odd pixels from even ones, and a loss without truth may make segments of them.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    multiple = 1  #: sides need not be divisible by more

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        depth: int = 4,
        smooth: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            check_int(name, value, 1)
        check_int("width", width, 1)
        check_int("depth", depth, 1)
        self.in_channels, self.depth = in_channels, depth
        widths = [width * 2**level for level in range(depth + 1)]
        self.first = double_conv(in_channels, width)
        self.down = nn.ModuleList(double_conv(a, b) for a, b in pairwise(widths))
        self.enlarge = nn.ModuleList(twice(b, a, smooth) for a, b in reversed([*pairwise(widths)]))
        self.up = nn.ModuleList(double_conv(2 * a, a) for a in reversed(widths[:-1]))
        self.scores = nn.Conv2d(width, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) float, both sides at least 2^depth → (B,K,H,W)."""
        check_tensor("x", x)
        check_shape("x", x, (None, self.in_channels, None, None))
        if min(x.shape[2:]) < 2**self.depth:
            raise ValueError(
                f"`x` must have a height and a width of at least {2**self.depth}, "
                f"got {x.shape[2]}×{x.shape[3]}"
            )
        x = self.first(x)
        beside = []
        for down in self.down:
            beside.append(x)
            x = down(F.max_pool2d(x, 2))
        for enlarge, up in zip(self.enlarge, self.up, strict=True):
            skip = beside.pop()
            x = enlarge(x)
            # Where an odd side was rounded down.
            missing = [skip.shape[i] - x.shape[i] for i in (3, 2)]
            x = F.pad(x, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else x
            x = up(torch.cat((skip, x), 1))
        return self.scores(x)
