"""The networks of AC and ARL (Ouali et al., "Autoregressive Unsupervised Image Segmentation", ECCV
2020, §3.3 and Table 1a)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import overload

import torch
import torch.nn.functional as F
from torch import nn

from ..checks import (
    check_choice,
    check_int,
    check_ints,
    check_number,
    check_shape,
    check_tensor,
)
from ..orderings import check_ordering
from .masked_conv import MaskedConv2d
from .ordered_attention import OrderedAttention

__all__ = ["AutoregressiveBlock", "AutoregressiveNet", "Critic"]

# What h and g_ar of Table 1a are: kind of h, its number of blocks, that of g_ar.
VARIANTS = {
    "F1": ("identity", 0, 5),
    "F2": ("stem", 0, 5),
    "F3": ("blocks", 1, 4),
    "F4": ("blocks", 5, 0),
    "F5": ("resnet18", 8, 0),
}
STRIDES = {1: (1, 1), 2: (2, 1), 4: (2, 2)}
STEM = 64


class AutoregressiveBlock(nn.Module):
    """A residual block of masked convolutions, without batch norm, which would look at all pixels.

        out = relu(conv₂(dropout(relu(conv₁(x)))) + shortcut(x))

    The convolutions are `MaskedConv2d` of 3×3 pixels, the shortcut is a 1×1 convolution where the
    number of channels changes, else x. As no batch norm does, the first weights keep the scale of
    activations (He et al., "Delving Deep into Rectifiers", ICCV 2015).

    Args:
        in_channels, out_channels: of x and of the result.
        dropout: probability that an activation between the convolutions is dropped.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = MaskedConv2d(in_channels, out_channels, 3, activation="relu")
        self.dropout = nn.Dropout(dropout)
        self.conv2 = MaskedConv2d(out_channels, out_channels, 3, activation="relu")
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor, ordering: int | None = None) -> torch.Tensor:
        """(B,C,H,W), ordering as of `MaskedConv2d` → (B,out_channels,H,W)."""
        inside = self.dropout(_convolve(self.conv1, x, ordering))
        return _convolve(self.conv2, inside, ordering, self.shortcut(x))


def _convolve(
    conv: MaskedConv2d, x: torch.Tensor, ordering: int | None, residual: torch.Tensor | None = None
) -> torch.Tensor:
    seen = conv.ordering if ordering is None else ordering
    if seen or not torch.compiler.is_exporting():
        return conv(x, ordering, residual)
    # An exported program is to run where fastseg is not.
    y = F.conv2d(x, conv.weight, conv.bias, padding=1)
    return torch.relu(y if residual is None else y + residual)


class Block(nn.Module):
    """The residual block of He et al. (2016), with batch norm, for what is not autoregressive."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        strides: tuple[int, int] = (1, 1),
        dilation: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        first, second = strides
        d = dilation
        self.inside = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, first, padding=d, dilation=d, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(out_channels, out_channels, 3, second, padding=d, dilation=d, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential()
        self.stride = first * second
        if in_channels != out_channels or self.stride > 1:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Not the convolution's stride: oneDNN's gradient of its weights then writes past its memory
        # where there are few channels, last (https://github.com/uxlfoundation/oneDNN/issues/6035).
        few = x[:, :, :: self.stride, :: self.stride]
        return torch.relu_(self.inside(x) + self.shortcut(few))


class Squares(nn.Module):
    """Squares of pixels become channels, as by `nn.PixelUnshuffle`; what lacks to a square is 0."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = self.side
        x = F.pad(x, (0, -x.shape[3] % n, 0, -x.shape[2] % n))
        batch, channels, height, width = x.shape
        x = x.reshape(batch, channels, height // n, n, width // n, n).permute(0, 1, 3, 5, 2, 4)
        return x.reshape(batch, channels * n * n, height // n, width // n)


def _extractor(
    kind: str, in_channels: int, widths: Sequence[int], stride: int, dropout: float
) -> tuple[nn.Module, int]:
    """h, and how many channels it gives."""
    first, second = STRIDES[stride]
    if kind == "identity":
        return Squares(stride), in_channels * stride**2
    if kind == "blocks":
        pairs = list(pairwise((in_channels, *widths)))
        strides = [STRIDES[stride]] + [(1, 1)] * (len(pairs) - 1)
        blocks = [Block(*p, s, dropout=dropout) for p, s in zip(pairs, strides, strict=True)]
        return nn.Sequential(*blocks), widths[-1]
    size = 7 if kind == "resnet18" else 3
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, STEM, size, first, size // 2, bias=False),
        nn.BatchNorm2d(STEM),
        nn.ReLU(inplace=True),
    ]
    if second > 1:
        layers.append(nn.MaxPool2d(3, second, 1))
    channels = STEM
    if kind == "resnet18":
        for i in range(4):  # dilated where it had strides
            for _ in range(2):
                layers.append(Block(channels, STEM << i, dilation=1 << i, dropout=dropout))
                channels = STEM << i
    return nn.Sequential(*layers), channels


class AutoregressiveNet(nn.Module):
    """F = h ∘ g_ar ∘ d: features, an encoder that sees them in an ordering, and class scores.

        variant  h, which sees everything                    g_ar
        "F1"     nothing, squares of pixels as channels      5 `AutoregressiveBlock`
        "F2"     stem: 3×3 convolution, batch norm, pooling  5
        "F3"     a residual block                            4
        "F4"     5 residual blocks                           none
        "F5"     ResNet-18, dilated beyond the stride        none

    d is a 1×1 convolution to the classes and bilinear upsampling; the paper's softmax is left to
    the caller, as losses differ in what they take. The paper leaves widths and the place of strides
    to a supplement: the choice here is its output stride of 4, and widths that double from 64.

    A zigzag orders the attention; the convolutions, which cannot follow it, then go in the raster
    scan of the same symmetry, whose number is 8 less. Orderings hold on the grid of the stride,
    before upsampling. The ordering is an argument of the call, else that of `use_ordering`, else 0.

    Args:
        num_classes: K.
        in_channels: of the picture.
        variant: one of the above.
        widths: channels after each residual block, of which there are as many as blocks.
            "F5" has its own.
        stride: 1, 2 or 4 pixels from one feature to the next.
        attention: put an `OrderedAttention` after the first block of g_ar, where there is one.
        heads: of the attention.
        dropout: of the residual blocks, as in `AutoregressiveBlock`.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        variant: str = "F2",
        *,
        widths: Sequence[int] = (128, 256, 512, 512, 512),
        stride: int = 4,
        attention: bool = False,
        heads: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_int("num_classes", num_classes, 1)
        check_int("in_channels", in_channels, 1)
        check_choice("variant", variant, VARIANTS)
        check_ints("widths", widths, 1, 5)
        check_choice("stride", stride, STRIDES)
        check_number("dropout", dropout, 0)
        if dropout >= 1:
            raise ValueError(f"`dropout` must be less than 1, got {dropout}")
        kind, before, after = VARIANTS[variant]
        if attention and not after:
            raise ValueError(f"`attention` must be False for {variant}, which has no g_ar")
        self.in_channels, self.num_classes, self.variant = in_channels, num_classes, variant
        self.extractor, channels = _extractor(kind, in_channels, widths[:before], stride, dropout)
        pairs = list(pairwise((channels, *widths[before:]))) if after else []
        self.blocks = nn.ModuleList(AutoregressiveBlock(a, b, dropout) for a, b in pairs)
        self.attention = OrderedAttention(pairs[0][1], heads=heads) if attention else None
        self.channels = pairs[-1][1] if after else channels
        self.decoder = nn.Conv2d(self.channels, num_classes, 1)

    @overload
    def forward(
        self, x: torch.Tensor, ordering: int | None = None, decode: bool = True
    ) -> torch.Tensor: ...

    @overload
    def forward(
        self, x: torch.Tensor, ordering: Sequence[int], decode: bool = True
    ) -> tuple[torch.Tensor, ...]: ...

    def forward(self, x, ordering=None, decode=True):
        """Scores of each pixel, before softmax.

        Args:
            x: (B,in_channels,H,W), float.
            ordering: from 0, which sees everything, for inference, to 16; or several, for which h
                is computed once.
            decode: apply d; else the result is that of `features`.

        Returns:
            (B,K,H,W), or a tuple of them, one for each ordering.
        """
        views = [ordering] if not isinstance(ordering, Sequence) else ordering
        maps = self.features(x, views)
        if decode:
            size = tuple(x.shape[2:])
            scores = map(self.decoder, maps)
            maps = [F.interpolate(y, size, mode="bilinear", align_corners=False) for y in scores]
        return tuple(maps) if isinstance(ordering, Sequence) else maps[0]

    def features(
        self, x: torch.Tensor, orderings: Sequence[int | None] = (None,)
    ) -> list[torch.Tensor]:
        """h ∘ g_ar: (B,in_channels,H,W) → (B,`channels`,⌈H/stride⌉,⌈W/stride⌉) in each ordering."""
        check_tensor("x", x)
        check_shape("x", x, (None, self.in_channels, None, None))
        for ordering in orderings:
            if ordering is not None:
                check_ordering(ordering)
        # What convolutions on a CPU are fastest with.
        shared = self.extractor(x.contiguous(memory_format=torch.channels_last))
        return [self._encode(shared, ordering) for ordering in orderings]

    def _encode(self, x: torch.Tensor, ordering: int | None) -> torch.Tensor:
        """g_ar."""
        raster = ordering if ordering is None or ordering <= 8 else ordering - 8
        for i, block in enumerate(self.blocks):
            x = block(x, raster)
            if i == 0 and self.attention is not None:
                x = self.attention(x, ordering)
        return x


class Critic(nn.Sequential):
    """φ of ARL's separable critic f(y,y') = ⟨φ₁(y),φ₂(y')⟩: 3×3 convolutions with batch norm and
    ReLU, then a 1×1 convolution to a space of more dimensions, for `fastseg.info_nce`.

    Args:
        in_channels: of the features, `AutoregressiveNet.channels`.
        out_channels: dimensions of that space.
        layers: how many 3×3 convolutions, of `in_channels` each.
    """

    def __init__(self, in_channels: int, out_channels: int = 1024, layers: int = 2) -> None:
        check_int("in_channels", in_channels, 1)
        check_int("out_channels", out_channels, 1)
        check_int("layers", layers, 0)
        super().__init__()
        for _ in range(layers):
            self.append(nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=False))
            self.append(nn.BatchNorm2d(in_channels))
            self.append(nn.ReLU(inplace=True))
        self.append(nn.Conv2d(in_channels, out_channels, 1))
