"""Displaced joints by cross-correlation of spectra, in plain PyTorch.

By the convolution theorem Ĵ[k,l] = Σ_b conj(p̂[b,k])·q̂[b,l]: the spectra are summed over the batch
before they are transformed back. Images are padded by T only, since displacements beyond T, which
then wrap around, are not asked for. Conjugates are copies, since graphs compiled by aot_eager lose
those that wait to be taken.
"""

from collections.abc import Sequence

import torch

from .plan import fast_size

# Of the padded planes of joints, at a time.
MOST_VALUES = 1 << 24


def _size(shape: Sequence[int], radius: int) -> tuple[int, int]:
    height, width = shape[-2:]
    return fast_size(height + radius), fast_size(width + radius)


def _shares(channels: int, values: int) -> list[slice]:
    """The channels, as many at a time as have no more than MOST_VALUES."""
    step = max(1, MOST_VALUES // max(1, values))
    return [slice(k, k + step) for k in range(0, channels, step)]


def spectral_joint(p: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """See `_reference.displaced_joint`."""
    n, m = _size(p.shape, radius)
    side = 2 * radius + 1
    joint = p.new_empty((side, side, p.shape[1], q.shape[1]))
    q_hat = torch.fft.rfft2(q, (n, m))
    for some in _shares(p.shape[1], q.shape[1] * n * m):
        p_hat = torch.fft.rfft2(p[:, some], (n, m))
        hat = torch.einsum("bkyx,blyx->klyx", p_hat.conj_physical(), q_hat)
        values = torch.fft.irfft2(hat, (n, m)).roll((radius, radius), (2, 3))[..., :side, :side]
        joint[:, :, some] = values.permute(2, 3, 0, 1)
    return joint


def spectral_mix(weights: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """See `_reference.displaced_mix`."""
    n, m = _size(q.shape, radius)
    out = q.new_empty((q.shape[0], weights.shape[2], *q.shape[2:]))
    q_hat = torch.fft.rfft2(q, (n, m))
    for some in _shares(weights.shape[2], q.shape[1] * n * m):
        planes = weights[:, :, some].permute(2, 3, 0, 1)
        padded = planes.new_zeros((*planes.shape[:2], n, m))
        padded[..., : planes.shape[2], : planes.shape[3]] = planes
        hat = torch.fft.rfft2(padded.roll((-radius, -radius), (2, 3)))
        mixed = torch.einsum("klyx,blyx->bkyx", hat.conj_physical(), q_hat)
        out[:, some] = torch.fft.irfft2(mixed, (n, m))[..., : q.shape[2], : q.shape[3]]
    return out
