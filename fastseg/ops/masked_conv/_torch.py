"""The masked convolution by PyTorch's own: oneDNN on a CPU, cuDNN on a GPU.

What sees F−1 rows on one side of a pixel is an ordinary convolution, padded by F−1 rows on both
sides, of whose results the last F−1 rows are left behind; oneDNN does no work for taps that fall
into such padding. So there is no padded copy, but for the weights' gradient, which drops it at
once, and nothing of it is kept for the backward pass.
"""

import torch
import torch.nn.functional as F

from ._taps import masked

ROWS, COLUMNS = 2, 3
# Bytes of results that oneDNN computes at a time, where it needs a copy in its own layout (NCHW):
# what fits into a cache costs no fresh pages of memory.
PART = 2 << 20


def _moved(size: int, ordering: int, dilation: int) -> tuple[int, int, bool]:
    """The axis along which the kernel is moved off its middle, how far, and whether to the end."""
    turns = (ordering - 1) % 4
    past = size // 2 * dilation if ordering else 0
    return (ROWS, COLUMNS)[turns % 2], past, turns >= 2


def _together(x: torch.Tensor, outs: int) -> int:
    """How many pictures to convolve at a time."""
    if x.device.type != "cpu" or not x.is_contiguous():
        return len(x)
    return max(1, PART // (outs * x[0, 0].numel() * x.element_size()))


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
    """See `_reference.masked_conv2d`; x is contiguous or in channels last, as is the result."""
    outs, size = weight.shape[0], weight.shape[2]
    axis, past, to_end = _moved(size, ordering, dilation)
    padding = [size // 2 * dilation] * 2
    padding[axis - ROWS] += past
    start, length = 2 * past if to_end else 0, x.shape[axis]
    weight = masked(weight, ordering)
    plain = residual is None and not relu

    def convolved(x: torch.Tensor) -> torch.Tensor:
        out = F.conv2d(x, weight, bias, 1, padding, dilation, groups)
        return out.narrow(axis, start, length)

    if plain and (past == 0 or not x.is_contiguous()):
        return convolved(x)
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    shape = (len(x), outs, *x.shape[2:])
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
    count = _together(x, outs)
    more = [None] * len(x) if residual is None else residual.split(count)
    for of, to, extra in zip(x.split(count), out.split(count), more, strict=False):
        part = convolved(of)
        if extra is not None:
            part = torch.add(part, extra, out=to)
        if relu:
            torch.clamp_min(part, 0, out=to)
        elif extra is None:
            to.copy_(part)
    return out


def masked_conv2d_pair(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    first: int,
    second: int,
    dilation: int,
    groups: int,
    relu: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `_reference.masked_conv2d_pair`."""
    options = dilation, groups, relu
    one, other = (masked_conv2d(x, weight, bias, None, o, *options) for o in (first, second))
    return one, other


def masked_conv2d_weight(
    grad: torch.Tensor, x: torch.Tensor, size: int, ordering: int, dilation: int, groups: int
) -> torch.Tensor:
    """See `_reference.masked_conv2d_weight`. A padded copy of x is faster here than one of `grad`,
    for whose padding oneDNN does a lot."""
    axis, past, to_end = _moved(size, ordering, dilation)
    padding = [size // 2 * dilation] * 2
    beside = [0, 0, 0, 0]
    if past:
        padding[axis - ROWS] = 0
        beside[2 * (COLUMNS - axis) + to_end] = 2 * past
    shape = (grad.shape[1], x.shape[1] // groups, size, size)
    count = _together(x, grad.shape[1])
    total = None
    for part, of in zip(x.split(count), grad.split(count), strict=True):
        part = torch.nn.grad.conv2d_weight(
            F.pad(part, beside), shape, of, 1, padding, dilation, groups
        )
        total = part if total is None else total.add_(part)
    return masked(total, ordering)
