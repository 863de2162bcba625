"""The operators in plain PyTorch: their definition, the fallback, and the benchmarks' baseline."""

import torch
import torch.nn.functional as F

from ._fft import plane_pixels, plane_spectra, spectral_joint, spectral_mix, spectrum_size

__all__ = [
    "box_sum",
    "displaced_joint",
    "displaced_mix",
    "iic_terms",
    "iic_terms_back",
    "plane_pixels",
    "plane_spectra",
    "spectral_joint",
    "spectral_mix",
    "spectrum_size",
]

# Below it probabilities count as it in logarithms, as in IIC's published program.
LEAST = 2.0**-52


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


def iic_terms(joint: torch.Tensor, lamb: float, symmetric: bool) -> torch.Tensor:
    """H(P) − λ H(Σ_l P) − λ H(Σ_k P) of each joint (…,K,K), P what it is when normalised."""
    joint = _normalised(joint, symmetric)[0]
    marginals = _entropy(joint.sum(-1)) + _entropy(joint.sum(-2))
    return _entropy(joint.flatten(-2)) - lamb * marginals


def iic_terms_back(
    of_terms: torch.Tensor, joint: torch.Tensor, lamb: float, symmetric: bool
) -> torch.Tensor:
    """The gradient of `joint` from that of `iic_terms`."""
    p, total = _normalised(joint, symmetric)
    marginals = _entropy_slope(p.sum(-1))[..., None] + _entropy_slope(p.sum(-2))[..., None, :]
    slope = _entropy_slope(p) - lamb * marginals
    slope = (slope - (slope * p).sum((-1, -2), keepdim=True)) / total
    return torch.where(joint >= 0, of_terms[..., None, None] * slope, 0)


def _normalised(joint: torch.Tensor, symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """And what by; "fft" leaves rounding where there is nothing."""
    joint = joint.clamp(min=0)
    total = joint.sum((-1, -2), keepdim=True)
    total = torch.where(total > 0, total, 1)
    joint = joint / total
    return (joint + joint.mT) / 2 if symmetric else joint, total


def _entropy(p: torch.Tensor) -> torch.Tensor:
    return -(p * p.clamp(min=LEAST).log()).sum(-1)


def _entropy_slope(p: torch.Tensor) -> torch.Tensor:
    """Of one of the terms of an entropy."""
    return -(p.clamp(min=LEAST).log() + (p >= LEAST))
