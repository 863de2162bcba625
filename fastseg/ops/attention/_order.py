"""Pixels in the order of a scan, and back: what all backends share."""

from functools import cache

import torch
from torch.library import define, impl, register_autograd, register_fake

from ... import backends
from ...orderings import permutation, ranks

__all__ = ["reorder"]

# An operator, so that one compiled graph serves all orderings: it gets the order from the cache.
define(
    "fastseg::reorder",
    "(Tensor x, SymInt height, SymInt width, SymInt ordering, bool back) -> Tensor",
)


def reorder(
    x: torch.Tensor, height: int, width: int, ordering: int, back: bool = False
) -> torch.Tensor:
    """Pixels in the order of a scan, from that of rows, or `back`: (…,N,d), its rows contiguous."""
    if ordering > 1:
        return torch.ops.fastseg.reorder(x, height, width, ordering, back)
    # The kernels whose memory grows with N take no others.
    return x if x.stride(-1) == 1 else x.contiguous()


# Without a limit, since a captured CUDA graph keeps the address.
@cache
def _order(
    height: int, width: int, ordering: int, back: bool, device: torch.device
) -> torch.Tensor:
    places = ranks(height, width, ordering).flatten()
    return (places if back else permutation(height, width, ordering)).to(device)


@impl("fastseg::reorder", ("CPU", "CUDA"))
def _reorder(x, height, width, ordering, back):
    kernel = backends.load("reorder", x.device, "auto")
    return kernel.reorder(x, _order(height, width, ordering, back, x.device))


@register_fake("fastseg::reorder")
def _reorder_fake(x, height, width, ordering, back):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep(ctx, inputs, output) -> None:
    _, *ctx.options = inputs


def _reorder_backward(ctx, grad):
    """The adjoint of a permutation is its inverse."""
    *place, back = ctx.options
    return torch.ops.fastseg.reorder(grad, *place, not back), None, None, None, None


register_autograd("fastseg::reorder", _reorder_backward, setup_context=_keep)
