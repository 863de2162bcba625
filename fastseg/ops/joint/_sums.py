"""Products with sums over squares where no kernel makes both at once: one after the other."""

from types import ModuleType

import torch


def joint_sum(kernel: ModuleType, p: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """Σ_b Σ_(y,x) p[b,k,y,x]·(□ q)[b,l,y,x], □ the kernel's `box_sum`: (K,L)."""
    return kernel.displaced_joint(p, kernel.box_sum(q, radius), 0)[0, 0]


def mixed_sum(
    kernel: ModuleType, weights: torch.Tensor, q: torch.Tensor, radius: int
) -> torch.Tensor:
    """out[b,k,y,x] = Σ_l weights[k,l]·(□ q)[b,l,y,x]: (B,K,H,W)."""
    return kernel.displaced_mix(weights[None, None], kernel.box_sum(q, radius), 0)
