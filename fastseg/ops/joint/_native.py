"""CPU launchers of csrc/joint.h."""

import torch

from ... import _native
from ._reference import displaced_mix as _convolution

# Shares of the pixels whose products are summed apart, whatever the number of threads.
LEAST_TASKS = 16


def _real(spectrum: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(spectrum.detach())


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
        return (weights[0, 0] @ q.flatten(2)).view(len(q), -1, *q.shape[2:])
    return _convolution(weights, q, radius)


def spectral_width(m: int, dtype: torch.dtype) -> int:
    """See `_reference.spectral_width`."""
    return _native.spectral_width(m // 2 + 1, double=dtype == torch.float64)


def spectral_joint(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """See `_reference.spectral_joint`; rows are dense."""
    (_, classes, n, columns), others = p.shape, q.shape[1]
    dtype = p.dtype.to_real()
    width = spectral_width(2 * columns - 2, dtype)
    joint = torch.empty((n, 2, classes, others, width), dtype=dtype)
    _native.spectral_joint(
        _real(p).numpy(), _real(q).numpy(), joint.numpy(), threads=torch.get_num_threads()
    )
    return joint


def spectral_mix(weights: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """See `_reference.spectral_mix`; rows are dense."""
    out = torch.empty((len(q), weights.shape[2], *q.shape[2:]), dtype=q.dtype)
    _native.spectral_mix(
        weights.detach().contiguous().numpy(),
        _real(q).numpy(),
        _real(out).numpy(),
        threads=torch.get_num_threads(),
    )
    return out
