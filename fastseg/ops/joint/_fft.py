"""Displaced joints by cross-correlation of spectra, in plain PyTorch.

By the convolution theorem Ĵ[k,l] = Σ_b conj(p̂[b,k])·q̂[b,l]: the spectra are summed over the batch
before they are transformed back. Images are padded by T only, since displacements beyond T, which
then wrap around, are not asked for. Conjugates are copies, since graphs compiled by aot_eager lose
those that wait to be taken.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from .plan import fast_size

# Of the padded planes of joints, at a time.
MOST_VALUES = {"cpu": 1 << 24, "cuda": 1 << 27}


def spectrum_size(shape: Sequence[int], radius: int) -> tuple[int, int]:
    """Of the spectrum of a plane."""
    n, m = _size(shape, radius)
    return n, m // 2 + 1


def _size(shape: Sequence[int], radius: int) -> tuple[int, int]:
    height, width = shape[-2:]
    return fast_size(height + radius), fast_size(width + radius)


def _shares(channels: int, values: int, device: torch.device) -> list[slice]:
    """The channels, as many at a time as have no more than MOST_VALUES."""
    step = max(1, MOST_VALUES[device.type] // max(1, values))
    return [slice(k, k + step) for k in range(0, channels, step)]


def plane_spectra(x: torch.Tensor, size: tuple[int, int], shift: int = 0) -> torch.Tensor:
    """Half spectra of the planes (…,H,W) among zeros (n,m), moved up and left by `shift`, and
    around the edges."""
    if shift:
        x = F.pad(x, (0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]))
        x = x.roll((-shift, -shift), (-2, -1))
    return torch.fft.rfft2(x, size)


def plane_pixels(
    hat: torch.Tensor, size: tuple[int, int], out: torch.Tensor, shift: int = 0
) -> None:
    """The other way round: writes `out` (…,H,W)."""
    values = torch.fft.irfft2(hat, size)
    if shift:
        values = values.roll((shift, shift), (-2, -1))
    out.copy_(values[..., : out.shape[-2], : out.shape[-1]])


def spectral_products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """out[i,j,y,x] = Σ_m conj(a[i,m,y,x])·b[j,m,y,x]."""
    return torch.einsum("imyx,jmyx->ijyx", a.conj_physical(), b)


def spectral_joint(
    p: torch.Tensor,
    q: torch.Tensor,
    radius: int,
    products: Callable = spectral_products,
    forth: Callable = plane_spectra,
    back: Callable = plane_pixels,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """See `_reference.displaced_joint`; and the spectra of p and q, for the gradients."""
    size = n, m = _size(p.shape, radius)
    side = 2 * radius + 1
    joint = p.new_empty((side, side, p.shape[1], q.shape[1]))
    p_hat, q_hat = (forth(x, size) for x in (p, q))
    for some in _shares(p.shape[1], q.shape[1] * n * m, p.device):
        hat = products(p_hat[:, some].transpose(0, 1), q_hat.transpose(0, 1))
        values = p.new_empty((*hat.shape[:2], side, side))
        back(hat, size, values, radius)
        joint[:, :, some] = values.permute(2, 3, 0, 1)
    return joint, (p_hat.contiguous(), q_hat.contiguous())


def spectral_mix(
    weights: torch.Tensor,
    q: torch.Tensor,
    q_hat: torch.Tensor,
    radius: int,
    products: Callable = spectral_products,
    forth: Callable = plane_spectra,
    back: Callable = plane_pixels,
) -> torch.Tensor:
    """See `_reference.displaced_mix`; `q_hat` is the spectra of q, or nothing."""
    size = n, m = _size(q.shape, radius)
    out = q.new_empty((q.shape[0], weights.shape[2], *q.shape[2:]))
    if q_hat.numel() == 0:
        q_hat = forth(q, size)
    for some in _shares(weights.shape[2], q.shape[1] * n * m, q.device):
        hat = forth(weights[:, :, some].permute(2, 3, 0, 1), size, radius)
        back(products(hat, q_hat), size, out[:, some].transpose(0, 1))
    return out
