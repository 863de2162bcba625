"""The public function, the operator it registers, and its checks."""

import torch
from torch.library import define, impl, register_autograd, register_fake

from ...checks import check_dtype, check_tensor

__all__ = ["argmax_in_place"]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

define("fastseg::argmax_in_place", "(Tensor p, int dim) -> Tensor")


def argmax_in_place(p: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """1 where `p` is largest along an axis and 0 elsewhere; its gradient is that of `p` itself.

    The argmax of Bishop, "Unsupervised Semantic Segmentation through Cross-Instance Representation
    Similarity", 2020, §6.1: forward it cuts a picture into segments, backward it copies the
    gradient over the discontinuity, so that it counts as the softmax before it.

    Args:
        p: float, of any shape, such as probabilities (B,K,H,W).
        dim: the axis of the classes.

    Returns:
        Of the shape, dtype and memory layout of `p`; a new tensor, `p` stays. Of equal values one
        is chosen, and NaN before any number.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    check_tensor("p", p)
    check_dtype("p", p, FLOATS)
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"`dim` must be an integer, got {type(dim).__name__}")
    if not -p.ndim <= dim < p.ndim:
        raise ValueError(f"`dim` must be an axis of `p`, which has {p.ndim}, got {dim}")
    if p.shape[dim] == 0:
        raise ValueError(f"`p` must have a class along axis {dim}, got shape {tuple(p.shape)}")
    return torch.ops.fastseg.argmax_in_place(p, dim)


@impl("fastseg::argmax_in_place", ("CPU", "CUDA"))
def _argmax_in_place(p: torch.Tensor, dim: int) -> torch.Tensor:
    # PyTorch's argmax of a few classes takes eight times as long.
    return torch.zeros_like(p).scatter_(dim, p.max(dim, keepdim=True).indices, 1)


@register_fake("fastseg::argmax_in_place")
def _argmax_in_place_fake(p: torch.Tensor, dim: int) -> torch.Tensor:
    return torch.empty_like(p)


def _argmax_in_place_backward(ctx, grad: torch.Tensor):
    return grad, None


register_autograd("fastseg::argmax_in_place", _argmax_in_place_backward)
