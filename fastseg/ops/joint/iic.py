"""The loss of IIC: a function of joints, for which there is a kernel, since it would be some
seventy small launches."""

from typing import Any

import torch
from torch.library import define, impl, register_autograd, register_fake

from ... import backends
from ...checks import check_choice, check_number, check_shape
from ...distributed import sum_over
from . import _reference
from .api import displaced_joint, joint_sum

__all__ = ["iic_loss"]

DEVICES = ("cuda",)  # that have a kernel,
MOST_CLASSES = 64  # of joints whose values fit in a program's registers

define("fastseg::iic_terms", "(Tensor joint, float lamb, bool symmetric, str backend) -> Tensor")
define(
    "fastseg::iic_terms_back",
    "(Tensor of_terms, Tensor joint, float lamb, bool symmetric, str backend) -> Tensor",
)


def iic_loss(
    p: torch.Tensor,
    q: torch.Tensor,
    radius: int,
    lamb: float = 1.0,
    mask: torch.Tensor | None = None,
    per_displacement: bool = True,
    symmetric: bool = True,
    group: Any = None,
    algorithm: str = "auto",
    backend: str = "auto",
) -> torch.Tensor:
    """Negative mutual information of two label fields over displacements, in nats.

        P_d = J_d / ΣJ_d (then ½(P_d + P_dᵀ) if `symmetric`)
        loss = mean over d of −Σ_kl P_d[k,l]·(ln P_d[k,l] − λ ln Σ_l P_d[k,l] − λ ln Σ_k P_d[k,l])
             = mean over d of H(P_d) − λ H(Σ_l P_d) − λ H(Σ_k P_d)

    (Ji et al., "Invariant Information Clustering", ICCV 2019, Eq. 5; λ as in its published program,
    which also takes the mean over displacements: `per_displacement`. Without that, P is the sum
    over displacements, normalised.) The fields need not sum to 1 over the classes, since joints
    are normalised; a pixel counts as much as its values. Nothing counted gives loss 0 and gradient
    0. Differentiable in `p` and `q`.

    Args:
        p, q: (B,K,H,W) class probabilities of two views, pixel on pixel.
        radius: T, the largest displacement along an axis, less than the shorter side.
        lamb: λ, the weight of the marginal entropies.
        mask: (B,H,W) bool; pixels where it is False are left out of both.
        per_displacement: take the mean of the loss over displacements; else the loss of their sum.
        symmetric: make each joint symmetric, as the published program does.
        group: a `torch.distributed` group (`torch.distributed.group.WORLD` for all ranks), whose
            joints are summed before the logarithm: every rank then gets the loss of the whole
            batch, and DistributedDataParallel, which averages gradients, that batch's gradient.
        algorithm, backend: as in `displaced_joint`; the sum of displacements has one algorithm.

    Returns:
        A scalar, float64 if `p` or `q` is, else float32.

    Raises:
        TypeError, ValueError: an argument is not as above.
        BackendUnavailable: the named backend cannot run here.
    """
    check_number("lamb", lamb, 0)
    for name, flag in (("per_displacement", per_displacement), ("symmetric", symmetric)):
        check_choice(name, flag, (True, False))
    if isinstance(p, torch.Tensor) and p.ndim == 4 and isinstance(q, torch.Tensor):
        check_shape("q", q, tuple(p.shape))
    if per_displacement:
        joint = displaced_joint(p, q, radius, mask, algorithm, backend)
    else:
        joint = joint_sum(p, q, radius, mask, backend)
    dtype = joint.dtype
    # Entropies nearly cancel where the fields are nearly independent: in float64, for it is small.
    joint = sum_over(joint.double(), group)
    if joint.device.type in DEVICES and joint.shape[-1] <= MOST_CLASSES:
        backend = "reference" if backend == "reference" else "auto"  # named for the joints
        terms = torch.ops.fastseg.iic_terms(joint, lamb, bool(symmetric), backend)
    else:
        terms = _reference.iic_terms(joint, lamb, symmetric)
    return terms.mean().to(dtype)


@impl("fastseg::iic_terms", ("CPU", "CUDA"))
def _terms(joint, lamb, symmetric, backend):
    kernel = backends.load("iic_terms", joint.device, backend)
    return kernel.iic_terms(joint.contiguous(), lamb, symmetric)


@register_fake("fastseg::iic_terms")
def _terms_fake(joint, lamb, symmetric, backend):
    return joint.new_empty(joint.shape[:-2])


def _keep(ctx, inputs, output) -> None:
    joint, *ctx.options = inputs
    ctx.save_for_backward(joint)


def _terms_backward(ctx, of_terms: torch.Tensor):
    (joint,), (*options, backend) = ctx.saved_tensors, ctx.options
    if torch.is_grad_enabled():  # for the second derivative
        return _reference.iic_terms_back(of_terms, joint, *options), None, None, None
    grad = torch.ops.fastseg.iic_terms_back(of_terms, joint, *options, backend)
    return grad, None, None, None


register_autograd("fastseg::iic_terms", _terms_backward, setup_context=_keep)


@impl("fastseg::iic_terms_back", ("CPU", "CUDA"))
def _terms_back(of_terms, joint, lamb, symmetric, backend):
    kernel = backends.load("iic_terms", joint.device, backend)
    return kernel.iic_terms_back(of_terms.contiguous(), joint.contiguous(), lamb, symmetric)


@register_fake("fastseg::iic_terms_back")
def _terms_back_fake(of_terms, joint, lamb, symmetric, backend):
    return torch.empty_like(joint, memory_format=torch.contiguous_format)
