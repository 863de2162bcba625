"""CPU launchers of csrc/joint.h."""

import torch

from ... import _native
from . import _tiles
from ._reference import displaced_mix as _convolution
from .plan import tiling

# Shares of the pixels whose products are summed apart, whatever the number of threads.
LEAST_TASKS = 16


def box_sum(x: torch.Tensor, radius: int) -> torch.Tensor:
    """See `_reference.box_sum`; x is contiguous, float32 or float64."""
    out = torch.empty_like(x)
    _native.box_sum(
        x.detach().flatten(0, 1).numpy(),
        out.flatten(0, 1).numpy(),
        radius=radius,
        threads=torch.get_num_threads(),
    )
    return out


def displaced_joint(p: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """See `_reference.displaced_joint`; p and q are contiguous, float32 or float64."""
    side = 2 * radius + 1
    parts = -(-LEAST_TASKS // side)
    joint = torch.empty((parts, side, side, p.shape[1], q.shape[1]), dtype=torch.float64)
    _native.displaced_joint(
        p.detach().numpy(), q.detach().numpy(), joint.numpy(), threads=torch.get_num_threads()
    )
    return joint.sum(0).to(p.dtype)


def displaced_mix(weights: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """See `_reference.displaced_mix`: a convolution, which PyTorch does well."""
    if radius == 0:
        out = _tiles.empty(q, len(q), weights.shape[2], *q.shape[2:])
        images = q.detach().flatten(2)
        torch.bmm(weights.detach()[0].expand(len(q), -1, -1), images, out=out.flatten(2))
        return out
    return _convolution(weights, q, radius)


def spectral_joint(
    p: torch.Tensor, q: torch.Tensor, radius: int
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """See `_reference.displaced_joint`; p and q are contiguous, float32 or float64. Spectra are not
    kept."""
    cut = tiling(p.shape, q.shape[1], radius)
    parts = p.detach().split(_tiles.most_channels(q.shape[1], cut), 1)
    joints = [_tiles.displaced_joint(some.contiguous(), q.detach(), cut) for some in parts]
    return joints[0] if len(joints) == 1 else torch.cat(joints, 2), ()


def spectral_mix(
    weights: torch.Tensor, q: torch.Tensor, q_hat: torch.Tensor, radius: int
) -> torch.Tensor:
    """See `_reference.displaced_mix`; q is contiguous, float32 or float64."""
    cut = tiling(q.shape, weights.shape[2], radius)
    parts = weights.detach().split(_tiles.most_channels(q.shape[1], cut), 2)
    mixed = [_tiles.displaced_mix(some, q.detach(), cut) for some in parts]
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed, 1)
