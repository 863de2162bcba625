"""The stacked hourglass, the backbone of InMARS."""

import torch
import torch.nn.functional as F
from torch import nn

from ..checks import check_choice, check_int, check_shape, check_tensor

__all__ = ["Hourglass"]


class Residual(nn.Module):
    """Pre-activated bottleneck: 1×1 to half the channels, 3×3, 1×1."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.layers = nn.Sequential()
        for before, after, size in (
            (channels, half, 1),
            (half, half, 3),
            (half, out_channels, 1),
        ):
            conv = nn.Conv2d(before, after, size, padding=size // 2)
            self.layers.extend([nn.BatchNorm2d(before), nn.ReLU(), conv])
        self.skip = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + (x if self.skip is None else self.skip(x))


def residuals(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(width, width) for _ in range(blocks)))


class Level(nn.Module):
    """One scale of an hourglass: beside it, half the resolution, and there the next scale."""

    def __init__(self, width: int, blocks: int, depth: int) -> None:
        super().__init__()
        self.beside, self.down, self.up = (residuals(width, blocks) for _ in range(3))
        self.inside = Level(width, blocks, depth - 1) if depth > 1 else residuals(width, blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = self.up(self.inside(self.down(F.max_pool2d(x, 2))))
        return self.beside(x) + F.interpolate(half, scale_factor=2.0)


class Stack(nn.Module):
    """An hourglass: its scores, and the input of the next, if there is one."""

    def __init__(self, width: int, out_channels: int, blocks: int, depth: int, last: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Level(width, blocks, depth),
            residuals(width, blocks),
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.scores = nn.Conv2d(width, out_channels, 1)
        self.onward = None if last else nn.Conv2d(width + out_channels, width, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.features(x)
        scores = self.scores(features)
        if self.onward is not None:
            x = x + self.onward(torch.cat((features, scores), 1))
        return x, scores


class Hourglass(nn.Module):
    """Stacked hourglasses: again and again down to 1/2^depth of the resolution and up (Newell et
    al., "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016; the backbone of InMARS).

    The original works at a quarter of the input's resolution, 256 channels wide. InMARS wants an
    embedding map of the input's size and an input divisible by 2^depth, which is so of hourglasses
    at full resolution: `stride` 1, at which 64 channels cost as much arithmetic. At `stride` 2
    or 4 the map is enlarged bilinearly, and `stride=4, width=256` is the original.

    Args:
        in_channels: C, of the images.
        out_channels: K, of the map.
        width: channels inside, divisible by 4.
        stacks: hourglasses in a row; each sees the features and the scores of the one before.
        blocks: residual blocks at each place.
        depth: times that the resolution is halved.
        stride: of the stem: 1, 2 or 4.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        stacks: int = 2,
        blocks: int = 2,
        depth: int = 4,
        stride: int = 1,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "stacks": stacks}
        for name, value in (sizes | {"blocks": blocks, "depth": depth}).items():
            check_int(name, value, 1)
        check_int("width", width, 4)
        if width % 4:
            raise ValueError(f"`width` must be divisible by 4, got {width}")
        check_choice("stride", stride, (1, 2, 4))
        self.in_channels, self.multiple = in_channels, stride * 2**depth
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width // 4, 7, min(stride, 2), 3),
            nn.BatchNorm2d(width // 4),
            nn.ReLU(),
            Residual(width // 4, width // 2),
            nn.MaxPool2d(2) if stride == 4 else nn.Identity(),
            Residual(width // 2, width // 2),
            Residual(width // 2, width),
        )
        self.stacks = nn.ModuleList(
            Stack(width, out_channels, blocks, depth, last=i == stacks - 1) for i in range(stacks)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) float, both sides divisible by `multiple` = stride·2^depth → (B,K,H,W)."""
        check_tensor("x", x)
        check_shape("x", x, (None, self.in_channels, None, None))
        height, width = x.shape[2:]
        if height % self.multiple or width % self.multiple or not height or not width:
            raise ValueError(
                f"`x` must have a height and a width divisible by {self.multiple}, "
                f"got {height}×{width}"
            )
        inside = self.stem(x)
        for stack in self.stacks:
            inside, scores = stack(inside)
        if scores.shape[2:] == x.shape[2:]:
            return scores
        return F.interpolate(scores, (height, width), mode="bilinear", align_corners=False)
