"""What InfoSeg's bound takes of the scores of paired images; as an operator, where there is a
kernel, one pass over them forward and one back."""

from typing import Any

import torch
from torch.library import define, impl, register_autograd, register_fake

from ... import backends
from ...distributed import rows_over
from . import _reference

__all__ = ["pair_terms", "terms"]

DEVICES = ("cuda",)  # that have a kernel

define(
    "fastseg::pair_terms",
    "(Tensor scores, Tensor partner, float tau, bool hard, str backend) -> Tensor",
)
define(
    "fastseg::pair_terms_back",
    "(Tensor grad, Tensor scores, Tensor partner, float tau, bool hard, str backend) -> Tensor",
)


def terms(
    scores: torch.Tensor, partner: torch.Tensor, tau: float, hard: bool, group: Any
) -> torch.Tensor:
    """`pair_terms` of images paired with `partner` (B,) of all ranks'."""
    if group is None and scores.device.type in DEVICES:
        return pair_terms(scores, partner, tau, hard)
    scores, others = scores.chunk(2, 1)
    if hard:
        label = scores.argmax(1, keepdim=True)
        joint = scores.gather(1, label)[:, 0]
        marginal = others.gather(1, rows_over(label, group)[0][partner])[:, 0]
    else:
        share = (tau * scores).softmax(1)
        joint = (share * scores).sum(1)
        marginal = (rows_over(share, group)[0][partner] * others).sum(1)
    return torch.stack((-joint, marginal))


def pair_terms(
    scores: torch.Tensor, partner: torch.Tensor, tau: float, hard: bool, backend: str = "auto"
) -> torch.Tensor:
    """−t⁺ and t⁻ of `infoseg_loss`, which grows with both; differentiable any number of times.

    Args:
        scores: (B,2K,N), float32 or float64: those of image b with its own K global features, then
            with those of its partner.
        partner: (B,), of each image another: a permutation.
        tau, hard: of the assignment.
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Returns:
        (2,B,N)
    """
    return torch.ops.fastseg.pair_terms(scores, partner, tau, hard, backend)


@impl("fastseg::pair_terms", ("CPU", "CUDA"))
def _terms(scores, partner, tau, hard, backend):
    kernel = backends.load("pair_terms", scores.device, backend)
    return kernel.pair_terms(scores.contiguous(), partner, tau, hard)


@register_fake("fastseg::pair_terms")
def _terms_fake(scores, partner, tau, hard, backend):
    return scores.new_empty((2, scores.shape[0], scores.shape[2]))


def _keep(ctx, inputs, output) -> None:
    scores, partner, *ctx.options = inputs
    ctx.save_for_backward(scores, partner)


def _terms_backward(ctx, grad: torch.Tensor):
    *options, backend = ctx.options
    if torch.is_grad_enabled():  # for the second derivative
        back = _reference.pair_terms_back
        return back(grad, *ctx.saved_tensors, *options), *([None] * 4)
    back = torch.ops.fastseg.pair_terms_back
    return back(grad, *ctx.saved_tensors, *options, backend), *([None] * 4)


register_autograd("fastseg::pair_terms", _terms_backward, setup_context=_keep)


@impl("fastseg::pair_terms_back", ("CPU", "CUDA"))
def _terms_back(grad, scores, partner, tau, hard, backend):
    kernel = backends.load("pair_terms", scores.device, backend)
    return kernel.pair_terms_back(grad.contiguous(), scores.contiguous(), partner, tau, hard)


@register_fake("fastseg::pair_terms_back")
def _terms_back_fake(grad, scores, partner, tau, hard, backend):
    return torch.empty_like(scores, memory_format=torch.contiguous_format)
