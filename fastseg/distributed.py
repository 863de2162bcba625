"""Sums over the ranks of a data-parallel run, and what they hold together."""

from typing import Any

import torch
import torch.nn.functional as F

__all__ = ["rows_over", "sum_over"]


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


def rows_over(x: torch.Tensor, group: Any) -> tuple[torch.Tensor, slice]:
    """All ranks' rows (N,…), which may differ in number, rank by rank, and which of them are this
    rank's; `x` itself and all if `group` is None. Gradients are as of `sum_over`.
    """
    if group is None:
        return x, slice(None)
    rank, world = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
    mine = torch.zeros(world, dtype=torch.int64, device=x.device)
    mine[rank] = len(x)
    counts = sum_over(mine, group).tolist()
    before, after = sum(counts[:rank]), sum(counts[rank + 1 :])
    # Each rank fills in its rows, so that one sum tells all ranks everything.
    rows = sum_over(F.pad(x, (0, 0) * (x.ndim - 1) + (before, after)), group)
    return rows, slice(before, before + len(x))
