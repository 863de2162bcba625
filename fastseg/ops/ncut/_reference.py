"""The definition of the sums of a soft normalised cut in plain PyTorch: any device, float dtype."""

import torch
import torch.nn.functional as F

from ._disc import disc, rate, reach


def ncut_sums(
    p: torch.Tensor, colours: torch.Tensor, radius: int, sigma_color: float, sigma_space: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Affinities W of the pixels within the disc, applied to p (B,K,H,W), colours (B,C,H,W).

    → Σ p·Wp (B,K), Σ p·d (B,K), Wp (B,K,H,W), d = W1 (B,H,W)
    """
    height, width = p.shape[2:]
    most = reach(radius, height, width)
    planes, around, inside = (
        F.pad(x, (most,) * 4) for x in (p, colours, torch.ones_like(p[:1, :1]))
    )
    of_color, of_space = rate(sigma_color, p.dtype), rate(sigma_space, p.dtype)
    filtered, degree = torch.zeros_like(p), torch.zeros_like(p[:, :1])
    for dy, dx in disc(radius, height, width):
        rows, columns = slice(most + dy, most + dy + height), slice(most + dx, most + dx + width)
        apart = (around[..., rows, columns] - colours).square().sum(1, keepdim=True)
        decay = apart * of_color + of_space * (dy * dy + dx * dx)
        weight = torch.exp(-decay)
        filtered += weight * planes[..., rows, columns]
        degree += weight * inside[..., rows, columns]
    inner, outer = (p * filtered).sum((2, 3)), (p * degree).sum((2, 3))
    return inner, outer, filtered, degree[:, 0]


def ncut_back(
    of_inner: torch.Tensor, of_outer: torch.Tensor, filtered: torch.Tensor, degree: torch.Tensor
) -> torch.Tensor:
    """The gradient of p (B,K,H,W) where those of Σ p·Wp and Σ p·d are (B,K)."""
    # W is symmetric: ∂(Σ p·Wp) = 2 Wp.
    grad = filtered * (2 * of_inner[:, :, None, None])
    return grad.addcmul_(of_outer[:, :, None, None], degree[:, None])
