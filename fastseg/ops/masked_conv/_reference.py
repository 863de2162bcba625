"""The definition of the masked convolution in plain PyTorch: any device, float dtype."""

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_weight

from ...orderings import turn, turn_back
from ._taps import layout, masked


def _padding(size: int, ordering: int, dilation: int) -> tuple[int, int, int, int]:
    """Pixels that a kernel reaches to the left, right, top and bottom, in the frame of ordering 1:
    from the current row it is moved up by its half."""
    half = size // 2 * dilation
    return (half, half, half, half) if ordering == 0 else (half, half, 2 * half, 0)


def masked_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    ordering: int,
    dilation: int,
    groups: int,
    relu: bool,
) -> torch.Tensor:
    """Turn to ordering 1, pad, mask, convolve, turn back: x (B,C,H,W) → (B,O,H,W)."""
    frame = ordering or 1
    padded = F.pad(turn_back(x, frame), _padding(weight.shape[2], ordering, dilation))
    weight = masked(turn_back(weight, frame), 1 if ordering else 0)
    out = turn(F.conv2d(padded, weight, bias, dilation=dilation, groups=groups), frame)
    out = out.contiguous(memory_format=layout(x))
    out = out if residual is None else out + residual
    return out.relu() if relu else out


def masked_conv2d_weight(
    grad: torch.Tensor, x: torch.Tensor, size: int, ordering: int, dilation: int, groups: int
) -> torch.Tensor:
    """The gradient of the weights: grad (B,O,H,W), x (B,C,H,W) → (O,C/groups,size,size)."""
    frame = ordering or 1
    x = F.pad(turn_back(x, frame), _padding(size, ordering, dilation))
    shape = (grad.shape[1], x.shape[1] // groups, size, size)
    weight = conv2d_weight(x, shape, turn_back(grad, frame), dilation=dilation, groups=groups)
    return turn(masked(weight, 1 if ordering else 0), frame).contiguous()
