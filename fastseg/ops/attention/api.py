"""The public function of the family, the operator it registers, and its checks."""

from functools import cache

import torch
import torch.nn.functional as F
from torch.library import define, impl, register_autograd, register_fake

from ...checks import (
    check_dtype,
    check_int,
    check_number,
    check_same_device,
    check_shape,
    check_tensor,
)
from ...orderings import check_ordering, permutation, ranks

__all__ = ["ordered_attention", "reorder"]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

# An operator, so that one compiled graph serves all orderings: it gets the order from the cache.
# The attention itself is PyTorch's, which a compiler knows.
define(
    "fastseg::reorder",
    "(Tensor x, SymInt height, SymInt width, SymInt ordering, bool back) -> Tensor",
)


def ordered_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    height: int,
    width: int,
    ordering: int = 0,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention in which a pixel sees those at or before it in an ordering (Ouali et al.,
    "Autoregressive Unsupervised Image Segmentation", ECCV 2020, §3.1).

        out_i = Σ_j p_ij v_j,  p_i = softmax over the j ≤ i of scale·⟨q_i,k_j⟩

    That is the paper's Eq. 2, Softmax(QKᵀ ⊙ M)·V, with the mask as its text means it: multiplied
    into the logits, M would let through what it is to hide, with the logit 0 instead of −∞.

    In the ordering's sequence this is causal attention, so the pixels go to it in that sequence and
    return; no mask is stored, and memory grows with N, not N². (PyTorch's own attention makes
    exceptions: where its memory-efficient kernels are switched off, and of float64 on a GPU.)
    Differentiable in `q`, `k` and `v`, once.

    Args:
        q, k, v: (B,heads,N,d), float: queries, keys and values of the N = height·width pixels, row
            by row; one dtype, which is that of the result. Half precision is summed in float32.
        height, width: H, W, of the picture.
        ordering: 1 … 8 raster scans, 9 … 16 zigzags, see `fastseg.orderings`; 0: every pixel sees
            all.
        scale: of the logits; 1/√d if None, where Eq. 2 has 1.

    Returns:
        (B,heads,N,d)

    Raises:
        TypeError, ValueError: an argument is not as above.
        RuntimeError: a second derivative is asked for, which PyTorch's attention lacks.
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_tensor(name, x)
        if x.ndim != 4:
            raise ValueError(f"`{name}` must have 4 dimensions (B, heads, N, d), "
                             f"got shape {tuple(x.shape)}")  # fmt: skip
        check_dtype(name, x, FLOATS if x is q else (q.dtype,))
        check_same_device(name, x, "q", q)
    check_int("height", height, 0)
    check_int("width", width, 0)
    check_ordering(ordering)
    if scale is not None:
        check_number("scale", scale, 0, exclusive=True)
    check_shape("q", q, (None, None, height * width, None))
    if q.shape[3] == 0:
        raise ValueError(f"`q` must have a d of at least 1, got shape {tuple(q.shape)}")
    check_shape("k", k, tuple(q.shape))
    check_shape("v", v, tuple(q.shape))
    q, k, v = (reorder(x, height, width, ordering) for x in (q, k, v))
    causal = True if ordering > 0 else False  # noqa: SIM210, a bool also where a compiler traces
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    return reorder(out, height, width, ordering, back=True)


def reorder(
    x: torch.Tensor, height: int, width: int, ordering: int, back: bool = False
) -> torch.Tensor:
    """Pixels in the order of a scan, from that of rows, or `back`: (…,N,d), its rows contiguous."""
    if ordering > 1:
        return torch.ops.fastseg.reorder(x, height, width, ordering, back)
    # The kernels whose memory grows with N take no others.
    return x if x.stride(-1) == 1 else x.contiguous()


# Without a limit, since a captured CUDA graph keeps the address.
@cache
def _order(
    height: int, width: int, ordering: int, back: bool, device: torch.device
) -> torch.Tensor:
    order = (
        ranks(height, width, ordering).flatten() if back else permutation(height, width, ordering)
    )
    return order.to(device)


@impl("fastseg::reorder", ("CPU", "CUDA"))
def _reorder(x, height, width, ordering, back):
    return x.index_select(-2, _order(height, width, ordering, back, x.device))


@register_fake("fastseg::reorder")
def _reorder_fake(x, height, width, ordering, back):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep(ctx, inputs, output) -> None:
    _, *ctx.options = inputs


def _reorder_backward(ctx, grad):
    """The adjoint of a permutation is its inverse."""
    *place, back = ctx.options
    return torch.ops.fastseg.reorder(grad, *place, not back), None, None, None, None


register_autograd("fastseg::reorder", _reorder_backward, setup_context=_keep)
