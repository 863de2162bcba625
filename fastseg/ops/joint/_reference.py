"""The operators in plain PyTorch: their definition, the fallback, and the benchmarks' baseline."""

import torch
import torch.nn.functional as F

from ._fft import plane_pixels, plane_spectra, spectral_joint, spectral_mix, spectrum_size

__all__ = [
    "box_sum",
    "displaced_joint",
    "displaced_mix",
    "plane_pixels",
    "plane_spectra",
    "spectral_joint",
    "spectral_mix",
    "spectrum_size",
]


def displaced_joint(p: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """J[dy,dx,k,l] = Σ_b Σ_(y,x) p[b,k,y,x]·q[b,l,y+dy,x+dx]: (2T+1,2T+1,K,L), T = `radius`."""
    height, width = p.shape[2:]
    side = 2 * radius + 1
    padded = F.pad(q, (radius,) * 4)
    joint = p.new_empty((side, side, p.shape[1], q.shape[1]))
    for dy in range(side):
        for dx in range(side):
            window = padded[..., dy : dy + height, dx : dx + width]
            joint[dy, dx] = torch.einsum("bkyx,blyx->kl", p, window)
    return joint


def displaced_mix(weights: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """out[b,k,y,x] = Σ_(dy,dx,l) weights[dy,dx,k,l]·q[b,l,y+dy,x+dx]: (B,K,H,W)."""
    return F.conv2d(q, weights.permute(2, 3, 0, 1), padding=radius)


def box_sum(x: torch.Tensor, radius: int) -> torch.Tensor:
    """The sum over the square of side 2T+1 around each pixel, zero outside the image."""
    return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, divisor_override=1)
