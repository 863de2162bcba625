"""The public function of the family, the operators it registers, and its checks."""

import math

import torch
from torch.library import define, impl, register_autograd, register_fake

from ... import backends
from ...autocast import cast
from ...checks import (
    check_dtype,
    check_int,
    check_number,
    check_same_device,
    check_shape,
    check_tensor,
)
from ...orderings import check_ordering
from . import _reference, _torch

__all__ = ["ordered_attention"]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

# What native kernels compute; PyTorch's own attention is not hidden in an operator. `ordering` may
# be symbolic, so that one compiled graph serves all.
define(
    "fastseg::ordered_attention",
    "(Tensor q, Tensor k, Tensor v, SymInt height, SymInt width, SymInt ordering, float scale,"
    " str backend) -> (Tensor, Tensor norm)",
)
define(
    "fastseg::ordered_attention_back",
    "(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor norm, SymInt height,"
    " SymInt width, SymInt ordering, float scale, str backend) -> (Tensor, Tensor, Tensor)",
)


def ordered_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    height: int,
    width: int,
    ordering: int = 0,
    scale: float | None = None,
    *,
    backend: str = "auto",
) -> torch.Tensor:
    """Attention in which a pixel sees those at or before it in an ordering (Ouali et al.,
    "Autoregressive Unsupervised Image Segmentation", ECCV 2020, §3.1).

        out_i = Σ_j p_ij v_j,  p_i = softmax over the j ≤ i of scale·⟨q_i,k_j⟩

    That is the paper's Eq. 2, Softmax(QKᵀ ⊙ M)·V, with the mask as its text means it: multiplied
    into the logits, M would let through what it is to hide, with the logit 0 instead of −∞.

    In the ordering's sequence this is causal attention, so the pixels go to it in that sequence and
    return; no mask is stored, and memory grows with N, not N². Differentiable in `q`, `k` and `v`,
    once; the reference any number of times.

    Args:
        q, k, v: (B,heads,N,d), float: queries, keys and values of the N = height·width pixels, row
            by row; one dtype, which is that of the result. Half precision is summed in float32.
            Under autocast its dtype, float64 excepted.
        height, width: H, W, of the picture.
        ordering: 1 … 8 raster scans, 9 … 16 zigzags, see `fastseg.orderings`; 0: every pixel sees
            all.
        scale: of the logits; 1/√d if None, where Eq. 2 has 1.
        backend: "auto", or one of `fastseg.backends.NAMES`. "torch" is PyTorch's own attention, on
            a GPU FlashAttention; of float64 it stores N×N products there.

    Returns:
        (B,heads,N,d)

    Raises:
        TypeError, ValueError: an argument is not as above.
        BackendUnavailable: the named backend cannot run here.
        NotImplementedError, or RuntimeError by PyTorch: a second derivative is asked for.
    """
    check_tensor("q", q)
    q, k, v = cast(q.device, q, k, v)
    _check(q, k, v, height, width, ordering)
    if scale is not None:
        check_number("scale", scale, 0, exclusive=True)
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else float(scale)
    options = height, width, ordering, scale
    chosen = backend
    if torch.compiler.is_compiling():  # a compiled graph finds out when it runs
        if backend == "auto" and q.device.type != "cpu":
            chosen = "torch"
    else:
        chosen = backends.resolve("ordered_attention", q.device, backend)
    if chosen == "reference":
        return _reference.ordered_attention(q, k, v, *options)
    if chosen == "torch":
        return _torch.ordered_attention(q, k, v, *options)
    return torch.ops.fastseg.ordered_attention(q, k, v, *options, chosen)[0]


def _check(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, height: int, width: int, ordering: int
) -> None:
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
    check_shape("q", q, (None, None, height * width, None))
    if q.shape[3] == 0:
        raise ValueError(f"`q` must have a d of at least 1, got shape {tuple(q.shape)}")
    check_shape("k", k, tuple(q.shape))
    check_shape("v", v, tuple(q.shape))


# --- The operators -----------------------------------------------------------------------------


@impl("fastseg::ordered_attention", "CPU")
def _forward(q, k, v, height, width, ordering, scale, backend):
    out, norm = _forward_fake(q)
    if q.numel() == 0:
        return out, norm
    kernel = backends.load("ordered_attention", q.device, backend)
    with torch.autocast(q.device.type, enabled=False):
        return kernel.forward(q, k, v, height, width, ordering, scale)


@register_fake("fastseg::ordered_attention")
def _forward_fake(q, *options):
    wide = torch.promote_types(q.dtype, torch.float32)
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=wide)


@impl("fastseg::ordered_attention_back", "CPU")
def _backward(grad, q, k, v, out, norm, height, width, ordering, scale, backend):
    if q.numel() == 0:
        return _backward_fake(grad, q)
    kernel = backends.load("ordered_attention", q.device, backend)
    saved = grad, q, k, v, out, norm
    with torch.autocast(q.device.type, enabled=False):
        return kernel.backward(*saved, height, width, ordering, scale)


@register_fake("fastseg::ordered_attention_back")
def _backward_fake(grad, q, *options):
    return q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape)


def _keep(ctx, inputs, output) -> None:
    q, k, v, *ctx.options = inputs
    ctx.save_for_backward(q, k, v, *output)
    ctx.mark_non_differentiable(output[1])


def _of_inputs(ctx, grad, _):
    if torch.is_grad_enabled():
        raise NotImplementedError("ordered_attention has no second derivative")
    back = torch.ops.fastseg.ordered_attention_back
    return *back(grad, *ctx.saved_tensors, *ctx.options), *([None] * 5)


register_autograd("fastseg::ordered_attention", _of_inputs, setup_context=_keep)
