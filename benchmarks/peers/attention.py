"""Attention in an ordering as a user would write it: with the mask stored."""

import math

import torch
import torch.nn.functional as F


def materialised(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor
) -> torch.Tensor:
    """The products in full; `hidden` (N,N) bool is True where a pixel must not be seen."""
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    return logits.masked_fill(hidden, -math.inf).softmax(-1) @ v


def masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """PyTorch's own attention under that mask."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=~hidden)
