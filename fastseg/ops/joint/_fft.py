"""Displaced joints by cross-correlation of spectra.

By the convolution theorem Ĵ[k,l] = Σ_b conj(p̂[b,k])·q̂[b,l]: the spectra are summed over the batch
before they are transformed back. Images are padded by T only, since displacements beyond T, which
then wrap around, are not asked for. And as no more than (2T+1)² of the n·m values of each
transform from Ĵ or to it count, these are products with slices of the Fourier matrices.

Spectra are kept as (n,B,K,2,m') and sums of their products as (n,2,K,L,m'): by rows of frequencies,
real parts and imaginary ones apart, with zeros behind the ⌊m/2⌋+1 frequencies along x.
"""

import math
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import torch

# Of Ĵ or Ĝ, at a time.
MOST_VALUES = 1 << 22
# m' is a multiple, whatever the registers hold.
WIDE = 16


def fast_size(least: int) -> int:
    """The next even size without prime factors above 7, which transforms fast."""
    size = least + least % 2
    while True:
        rest = size
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2


def spectrum_size(shape: Sequence[int], radius: int) -> tuple[int, int]:
    """(n,m) of the padded image of that shape; a graph is compiled for one size."""
    height, width = map(int, shape[-2:])
    return fast_size(height + radius), fast_size(width + radius)


def spectra_shape(x: torch.Tensor, radius: int) -> tuple[int, ...]:
    """(n,B,K,2,m') of x (B,K,H,W)."""
    n, m = spectrum_size(x.shape, radius)
    return n, x.shape[0], x.shape[1], 2, (m // 2 + WIDE) // WIDE * WIDE


def write_spectra(x: torch.Tensor, radius: int, kernel: ModuleType, out: torch.Tensor) -> None:
    """Those of x (B,K,H,W), an image at a time."""
    for i, image in enumerate(x.detach()):
        kernel.part_spectra(torch.fft.rfft2(image, spectrum_size(x.shape, radius)), out, i)


@cache
def _matrices(
    size: tuple[int, int], radius: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slices of the Fourier matrices for the displacements −T … T.

    down (2,2T+1,n): cos and sin of 2π·fy·dy/n. across (2,2T+1,2,width): of the angle 2π·fx·dx/m,
    what cos (first) and sin (second) of `down` meet in the real and in the imaginary part.
    """
    n, m = size
    lags = torch.arange(-radius, radius + 1, dtype=torch.float64)
    down = lags[:, None] * torch.arange(n) * (2 * math.pi / n)
    angle = lags[:, None] * torch.arange(m // 2 + 1) * (2 * math.pi / m)
    cos, sin = torch.cos(angle), torch.sin(angle)
    across = torch.stack((torch.stack((cos, -sin), 1), torch.stack((-sin, -cos), 1)))
    across = torch.nn.functional.pad(across, (0, width - across.shape[-1]))
    down = torch.stack((torch.cos(down), torch.sin(down)))
    return down.to(device, dtype), across.to(device, dtype)


def _steps(rows: int, columns: int, values: int) -> range:
    return range(0, rows, max(1, MOST_VALUES // max(1, columns * values)))


def displaced_joint(
    p_hat: torch.Tensor, q_hat: torch.Tensor, size: tuple[int, int], radius: int, kernel: ModuleType
) -> torch.Tensor:
    """See `_reference.displaced_joint`, from the spectra of p and q."""
    (n, m), side = size, 2 * radius + 1
    channels, others, width = p_hat.shape[2], q_hat.shape[2], q_hat.shape[4]
    joint = q_hat.new_empty((side, side, channels, others))
    steps = _steps(channels, others, n * m)
    for k in steps:
        part = kernel.spectral_joint(p_hat[:, :, k : k + steps.step], q_hat)  # (n,2,k,L,m')
        some = part.shape[2]
        down, across = _matrices(size, radius, width, joint.dtype, joint.device)
        # Each frequency but the first and the last stands for its conjugate too.
        twice = torch.full((width,), 2 / (n * m), dtype=joint.dtype, device=joint.device)
        twice[0] = twice[m // 2] = 1 / (n * m)
        lines = (down.flatten(0, 1) @ part.flatten(1)).view(2, side, 2, some * others, width)
        values = (lines.movedim(2, 3).flatten(3).flatten(1, 2)) @ (across * twice).flatten(2).mT
        joint[:, :, k : k + steps.step] = values.sum(0).view(side, some, others, side).movedim(3, 1)
    return joint


def displaced_mix(
    weights: torch.Tensor,
    q_hat: torch.Tensor,
    size: tuple[int, int],
    radius: int,
    shape: Sequence[int],
    kernel: ModuleType,
) -> torch.Tensor:
    """See `_reference.displaced_mix`, from the spectrum of q."""
    side, _, channels, others = weights.shape
    (n, m), (height, width) = size, shape[-2:]
    wide = q_hat.shape[4]
    out = weights.new_empty((q_hat.shape[1], channels, height, width))
    steps = _steps(channels, others, n * m)
    down, across = _matrices(size, radius, wide, weights.dtype, weights.device)
    for k in steps:
        part = weights[:, :, k : k + steps.step]  # (dy,dx,k,L)
        some = part.shape[2]
        lines = part.permute(0, 2, 3, 1).reshape(-1, side) @ across.flatten(2)  # (2,dy·k·L,2·m')
        lines = lines.view(2, side, some * others, 2, wide).movedim(3, 2).reshape(2 * side, -1)
        hat = (down.flatten(0, 1).mT @ lines).view(n, 2, some, others, wide)
        mixed = kernel.spectral_mix(hat, q_hat, m // 2 + 1)
        out[:, k : k + some] = torch.fft.irfft2(mixed, size)[..., :height, :width]
    return out
