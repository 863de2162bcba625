"""The masked convolution by PyTorch's own: oneDNN on a CPU, cuDNN on a GPU.

What sees F−1 rows on one side of a pixel is an ordinary convolution, padded by F−1 rows on both
sides, of whose results F−1 rows are left out. So there is no padded copy, but for the weights'
gradient, which drops it at once, and none is kept for the backward pass.
"""

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_weight

from ._taps import layout, masked

ROWS, COLUMNS = 2, 3


def _moved(size: int, ordering: int, dilation: int) -> tuple[int, int, bool]:
    """The axis along which the kernel is moved off its middle, how far, and whether to the end."""
    turns = (ordering - 1) % 4
    past = size // 2 * dilation if ordering else 0
    return (ROWS, COLUMNS)[turns % 2], past, turns >= 2


def _padding(size: int, dilation: int, axis: int, of_axis: int) -> list[int]:
    """On both sides: `of_axis` pixels along `axis`, the kernel's half along the other."""
    return [of_axis if at == axis else size // 2 * dilation for at in (ROWS, COLUMNS)]


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
    """See `_reference.masked_conv2d`. With neither residual nor ReLU the result is a part of a
    larger tensor."""
    size = weight.shape[2]
    axis, past, to_end = _moved(size, ordering, dilation)
    padding = _padding(size, dilation, axis, size // 2 * dilation + past)
    out = F.conv2d(x, masked(weight, ordering), bias, 1, padding, dilation, groups)
    out = out.narrow(axis, 2 * past if to_end else 0, x.shape[axis])
    if residual is not None:
        out = out + residual
        return out.relu_() if relu else out
    return out.relu() if relu else out


def empty_result(
    x: torch.Tensor, weight: torch.Tensor, ordering: int, dilation: int, groups: int
) -> torch.Tensor:
    """Has the strides of what `masked_conv2d` gives with neither residual nor ReLU."""
    axis, past, to_end = _moved(weight.shape[2], ordering, dilation)
    shape = [x.shape[0], weight.shape[0], *x.shape[2:]]
    shape[axis] += 2 * past
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout(x))
    return out.narrow(axis, 2 * past if to_end else 0, x.shape[axis])


def masked_conv2d_weight(
    grad: torch.Tensor, x: torch.Tensor, size: int, ordering: int, dilation: int, groups: int
) -> torch.Tensor:
    """See `_reference.masked_conv2d_weight`. A padded copy of x is faster here than one of `grad`,
    for whose results in the padding oneDNN does a lot of work."""
    axis, past, to_end = _moved(size, ordering, dilation)
    padding = _padding(size, dilation, axis, 0 if past else size // 2 * dilation)
    beside = [0, 0, 0, 0]  # left, right, top, bottom
    beside[2 * (COLUMNS - axis) + to_end] = 2 * past
    shape = (grad.shape[1], x.shape[1] // groups, size, size)
    weight = conv2d_weight(
        F.pad(x, beside) if past else x, shape, grad, 1, padding, dilation, groups
    )
    return masked(weight, ordering)
