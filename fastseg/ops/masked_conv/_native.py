"""CPU launchers of csrc/masked_conv.h; what it has no kernel for goes to PyTorch's."""

from typing import Any

import numpy as np
import torch

from ... import _native
from . import _torch
from ._taps import layout

DTYPES = (torch.float32, torch.float64)
LEAST_CHANNELS = 24


def suits(x: torch.Tensor, outs: int, size: int, ordering: int, dilation: int, groups: int) -> bool:
    """Whether there is a kernel, and it is faster than PyTorch's."""
    fits = ordering > 0 and size == 3 and dilation == groups == 1 and x.dtype in DTYPES
    return fits and min(x.shape[1], outs) >= LEAST_CHANNELS


def _first(x: torch.Tensor, ordering: int) -> Any:
    """`turn_back`, as a view."""
    mirrored, quarters = divmod(ordering - 1, 4)
    array = np.rot90(x.detach().numpy(), -quarters, (-2, -1))
    return array[..., ::-1] if mirrored else array


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
    """See `_reference.masked_conv2d`."""
    options = ordering, dilation, groups
    if not suits(x, len(weight), weight.shape[2], *options):
        return _torch.masked_conv2d(x, weight, bias, residual, *options, relu)
    out = empty_result(x, weight, ordering, dilation, groups)
    _native.masked_conv(
        _first(x, ordering),
        _first(weight, ordering),
        None if bias is None else bias.detach().numpy(),
        None if residual is None else _first(residual, ordering),
        _first(out, ordering),
        relu,
        torch.get_num_threads(),
    )
    return out


def empty_result(
    x: torch.Tensor, weight: torch.Tensor, ordering: int, dilation: int, groups: int
) -> torch.Tensor:
    """Has the strides of what `masked_conv2d` gives with neither residual nor ReLU."""
    if not suits(x, len(weight), weight.shape[2], ordering, dilation, groups):
        return _torch.empty_result(x, weight, ordering, dilation, groups)
    shape = x.shape[0], weight.shape[0], *x.shape[2:]
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout(x))


def masked_conv2d_weight(
    grad: torch.Tensor, x: torch.Tensor, size: int, ordering: int, dilation: int, groups: int
) -> torch.Tensor:
    """See `_reference.masked_conv2d_weight`."""
    options = size, ordering, dilation, groups
    if not suits(x, grad.shape[1], *options):
        return _torch.masked_conv2d_weight(grad, x, *options)
    weight = x.new_empty((grad.shape[1], x.shape[1], size, size))
    of_grad, of_x, out = (_first(tensor, ordering) for tensor in (grad, x, weight))
    _native.masked_conv_weight(of_grad, of_x, out, torch.get_num_threads())
    return weight
