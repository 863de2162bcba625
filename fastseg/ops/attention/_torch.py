"""Attention in an ordering by PyTorch's own: causal, of pixels put in order."""

from typing import Any

import torch
import torch.nn.functional as F

from ._order import reorder


def ordered_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    height: int,
    width: int,
    ordering: int,
    scale: float,
) -> torch.Tensor:
    """See `_reference.ordered_attention`."""
    q, k, v = (reorder(x, height, width, ordering) for x in (q, k, v))
    causal = True if ordering > 0 else False  # noqa: SIM210, a bool also where a compiler traces
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    return reorder(out, height, width, ordering, back=True)


# Inside the operator, where a compiled graph finds no extension.


def forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, and nothing for the gradients."""
    out = ordered_attention(q, k, v, *options)
    return out.contiguous(), out.new_empty(
        out.shape[:3], dtype=torch.promote_types(out.dtype, torch.float32)
    )


def backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    norm: torch.Tensor,
    *options: Any,
) -> tuple[torch.Tensor, ...]:
    """The gradients of q, k and v, of attention computed anew."""
    with torch.enable_grad():
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        again = ordered_attention(q, k, v, *options)
    return tuple(x.contiguous() for x in torch.autograd.grad(again, (q, k, v), grad))
