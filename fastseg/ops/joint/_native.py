"""CPU launchers of csrc/joint.h."""

import torch

from ... import _native
from ._reference import displaced_mix as _convolution

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
        return (weights[0, 0] @ q.flatten(2)).view(len(q), -1, *q.shape[2:])
    return _convolution(weights, q, radius)


def part_spectra(spectra: torch.Tensor, out: torch.Tensor, image: int) -> None:
    """See `_reference.part_spectra`."""
    parts = torch.view_as_real(spectra.contiguous()).numpy()
    _native.part_spectra(parts, out.numpy(), image=image, threads=torch.get_num_threads())


def spectral_joint(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """See `_reference.spectral_joint`; rows are dense."""
    (n, _, classes, _, wide), others = p.shape, q.shape[2]
    joint = p.new_empty((n, 2, classes, others, wide))
    threads = torch.get_num_threads()
    _native.spectral_joint(p.detach().numpy(), q.detach().numpy(), joint.numpy(), threads)
    return joint


def spectral_mix(weights: torch.Tensor, q: torch.Tensor, columns: int) -> torch.Tensor:
    """See `_reference.spectral_mix`; rows are dense."""
    n, batch, classes = len(q), q.shape[1], weights.shape[2]
    out = q.new_empty((batch, classes, n, columns, 2))
    threads = torch.get_num_threads()
    _native.spectral_mix(weights.detach().numpy(), q.detach().numpy(), out.numpy(), threads)
    return torch.view_as_complex(out)
