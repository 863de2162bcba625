"""The processes that share a batch: who am I, what do the others have."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..distributed import sum_over

__all__ = ["RankBatchNorm", "Ranks", "normalise_over", "ranks"]


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run."""

    device: torch.device
    rank: int = 0
    world: int = 1
    group: Any = None  #: all of them; None if there is but one

    def mean(self, values: Sequence[float]) -> list[float]:
        """Each value's mean over the ranks."""
        if self.group is None:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        return (sum_over(total, self.group) / self.world).tolist()

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace gradients by their means over the ranks, in one message for each dtype.

        This is all that DistributedDataParallel would do here. It wants one forward call a step
        through its wrapper and no parameter left out; methods call their networks many times, take
        gradients for inputs in between, and some leave out a head in every other step.
        """
        if self.group is None:
            return
        by_dtype: dict[torch.dtype, list[torch.Tensor]] = {}
        for parameter in parameters:
            if parameter.grad is not None:
                by_dtype.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for grads in by_dtype.values():
            flat = torch.cat([grad.reshape(-1) for grad in grads])
            dist.all_reduce(flat, group=self.group)
            flat /= self.world
            for grad, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
                grad.copy_(mean.view_as(grad))


@contextmanager
def ranks(device: str = "auto") -> Iterator[Ranks]:
    """The ranks that `torchrun` has started, with NCCL on GPUs and Gloo on CPUs; else just this.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("`--device cuda`: PyTorch finds no CUDA device here")
    world, local = (
        int(os.environ.get(name, d)) for name, d in (("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    place = torch.device(device, local) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    if world == 1:
        yield Ranks(place)
        return
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Ranks(place, dist.get_rank(), world, dist.group.WORLD)
    finally:
        dist.destroy_process_group()


# --- Batch norm over the ranks -----------------------------------------------------------------


class RankBatchNorm(_BatchNorm):
    """Batch norm with the statistics of all ranks' batches, on any device.

    PyTorch's SyncBatchNorm is for GPUs alone, and its gradient cannot be differentiated again.
    """

    group: Any

    def _check_input_dim(self, x: torch.Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"`x` must have a batch and a channel axis, got {tuple(x.shape)}")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        axes, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean, var, count = self._statistics(wide, axes)
        if self.track_running_stats:
            self._track(mean.detach(), (var * (count / (count - 1).clamp(min=1))).detach())
        out = (wide - mean.view(shape)) * (var + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)

    def _statistics(
        self, x: torch.Tensor, axes: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean and variance (C,) of all ranks' values, and how many there are of each channel."""
        rank, world = dist.get_rank(self.group), dist.get_world_size(self.group)
        var, mean = torch.var_mean(x, axes, correction=0)
        own = torch.cat([mean, var, x.new_full((1,), x.numel() / x.shape[1])])
        # Each rank fills in its row, so that one sum tells all ranks everything.
        rows = sum_over(F.pad(own[None], (0, 0, rank, world - rank - 1)), self.group)
        means, variances, counts = rows.split([x.shape[1], x.shape[1], 1], 1)
        share = counts / counts.sum()
        mean = (share * means).sum(0)
        return mean, (share * (variances + (means - mean).square())).sum(0), counts.sum()

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        if (
            self.running_mean is None
            or self.running_var is None
            or self.num_batches_tracked is None
        ):
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for running, now in ((self.running_mean, mean), (self.running_var, var)):
            running.lerp_(now.to(running.dtype), share)


def normalise_over(module: nn.Module, group: Any) -> None:
    """Let the batch norms in `module` normalise over the ranks, with the parameters they have."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            norm = RankBatchNorm(child.num_features)
            norm.__dict__.update(child.__dict__)
            norm.group = group
            setattr(module, name, norm)
        else:
            normalise_over(child, group)
