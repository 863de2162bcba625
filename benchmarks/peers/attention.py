"""Attention in an ordering as a user would write it: with the mask stored."""

import math
from collections.abc import Callable
from functools import cache, partial

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


def flex(places: torch.Tensor) -> Callable:
    """FlexAttention, compiled, which skips blocks that see nothing: of pixels whose place in the
    ordering is `places` (N,)."""
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(batch, head, i, j):
        return places[j] <= places[i]

    size = len(places)
    mask = create_block_mask(seen, None, None, size, size, str(places.device))
    return partial(_compiled_flex(), block_mask=mask)


@cache
def _compiled_flex() -> Callable:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)
