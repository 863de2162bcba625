"""Sums over the ranks of a data-parallel run."""

from typing import Any

import torch

__all__ = ["sum_over"]


class _SumOver(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, group: Any) -> torch.Tensor:
        ctx.group = group
        total = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        return _SumOver.apply(grad, ctx.group), None


def sum_over(x: torch.Tensor, group: Any) -> torch.Tensor:
    """The sum of every rank's `x`; `x` itself if `group` is None.

    Each rank's gradient is the sum of all ranks': the gradient of the sum of their losses. Where
    all compute the same loss, that is as many times its gradient, which averaging gradients over
    the ranks, as DistributedDataParallel does, makes right.
    """
    return x if group is None else _SumOver.apply(x, group)
