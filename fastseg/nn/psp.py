"""The pyramid pooling network of IEM's second phase."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..checks import check_int, check_ints, check_shape, check_tensor

__all__ = ["PSPNet"]

LEAST = 4  # pixels of a side; instance norm needs more than one at half of it


class Residual(nn.Module):
    """Pre-activated: twice instance norm, ReLU, 3×3; the first convolution has the stride."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for before, step in ((channels, stride), (out_channels, 1)):
            conv = nn.Conv2d(before, out_channels, 3, step, 1)
            self.layers.extend([nn.InstanceNorm2d(before, affine=True), nn.ReLU(), conv])
        same = stride == 1 and channels == out_channels
        self.skip = None if same else nn.Conv2d(channels, out_channels, 1)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return y + (x if self.skip is None else self.skip(x))


class Pyramid(nn.Module):
    """Beside each pixel the means of the parts that it lies in, of grids from coarse to fine (Zhao
    et al., "Pyramid Scene Parsing Network", CVPR 2017)."""

    def __init__(self, channels: int, grids: Sequence[int]) -> None:
        super().__init__()
        self.grids = tuple(grids)
        share = max(1, channels // len(self.grids))
        self.branches = nn.ModuleList(nn.Conv2d(channels, share, 1) for _ in self.grids)
        self.channels = channels + share * len(self.grids)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [x]
        for grid, branch in zip(self.grids, self.branches, strict=True):
            means = branch(F.adaptive_avg_pool2d(x, grid))
            found.append(F.interpolate(means, x.shape[2:], mode="bilinear", align_corners=False))
        return torch.cat(found, 1)


class PSPNet(nn.Module):
    """One residual block that halves the resolution, three that keep it, and pyramid pooling, with
    instance norm for batch norm (Savarese et al., CVPR 2021, §4.2, after ReDO); the map is enlarged
    bilinearly.

    After pyramid pooling there is no norm: instance norm takes away what is the same in a whole
    picture, such as the mean over it.

    Args:
        in_channels: C, of the images.
        out_channels: K, of the map.
        width: channels inside.
        blocks: residual blocks that keep the resolution.
        grids: numbers of parts, along either side, of pyramid pooling.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    multiple = 1  #: sides need not be divisible by more

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        blocks: int = 3,
        grids: Sequence[int] = (1, 2, 3, 6),
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "width": width}
        for name, value in (sizes | {"blocks": blocks}).items():
            check_int(name, value, 1)
        check_ints("grids", grids, 1, len(grids))
        self.in_channels = in_channels
        kept = (Residual(width, width) for _ in range(blocks))
        # Not normalised before it, the picture keeps its brightness and contrast.
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.blocks = nn.Sequential(Residual(width, width, stride=2), *kept)
        self.pyramid = Pyramid(width, grids)
        self.head = nn.Sequential(
            nn.Conv2d(self.pyramid.channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, out_channels, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) float, both sides at least 4 → (B,K,H,W)."""
        check_tensor("x", x)
        check_shape("x", x, (None, self.in_channels, None, None))
        if min(x.shape[2:]) < LEAST:
            raise ValueError(
                f"`x` must have a height and a width of at least {LEAST}, "
                f"got {x.shape[2]}×{x.shape[3]}"
            )
        scores = self.head(self.pyramid(self.blocks(self.stem(x))))
        return F.interpolate(scores, x.shape[2:], mode="bilinear", align_corners=False)
