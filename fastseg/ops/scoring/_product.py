"""Products of bfloat16 matrices, read as they are, with sums and results in float32."""

import torch
from torch.library import define, impl, register_autograd, register_fake

__all__ = ["wide_product"]

# An operator, since a compiler cannot lower PyTorch's own in every version.
define("fastseg::wide_product", "(Tensor a, Tensor b) -> Tensor")


def wide_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(B,M,P), (B,P,N) bfloat16 → a·b (B,M,N) float32; its gradient is rounded to bfloat16 before
    it is multiplied, and those of `a` and `b` are bfloat16. Differentiable any number of times."""
    return torch.ops.fastseg.wide_product(a, b)


@impl("fastseg::wide_product", "CUDA")
def _wide_product_cuda(a, b):
    return torch.bmm(a, b, out_dtype=torch.float32)


@impl("fastseg::wide_product", "CPU")
def _wide_product_cpu(a, b):
    return a.float() @ b.float()


@register_fake("fastseg::wide_product")
def _wide_product_fake(a, b):
    return a.new_empty((*a.shape[:2], b.shape[2]), dtype=torch.float32)


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad: torch.Tensor):
    a, b = ctx.saved_tensors
    grad = grad.to(a.dtype)
    return grad @ b.mT, a.mT @ grad


register_autograd("fastseg::wide_product", _backward, setup_context=_keep)
