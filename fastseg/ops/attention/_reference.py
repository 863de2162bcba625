"""Attention with its mask stored, the definition and the benchmarks' baseline; and pixels put in
order."""

import math

import torch

from ...orderings import attention_mask


def ordered_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    height: int,
    width: int,
    ordering: int,
    scale: float | None = None,
    literal: bool = False,
) -> torch.Tensor:
    """Softmax(scale·QKᵀ where M, else −∞)·V: three of (B,heads,N,d) → (B,heads,N,d).

    `literal` takes Eq. 2 of the paper at its word, Softmax(scale·QKᵀ ⊙ M)·V: what a pixel may not
    see then has the logit 0, so that it is seen all the same.
    """
    mask = attention_mask(height, width, ordering).to(q.device)
    logits = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    logits = logits * mask if literal else logits.masked_fill(~mask, -math.inf)
    return logits.softmax(-1) @ v


def reorder(x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Row i of the result is row `order[i]`: (…,N,d), a permutation (N,) int64 → (…,N,d)."""
    return x.index_select(-2, order)
