"""Public functions of the family, the operators they register, and their checks."""

from functools import partial
from typing import Any

import torch
from torch.library import define, impl, register_autograd, register_fake

from ... import backends
from ...checks import (
    INT32_MAX,
    check_choice,
    check_dtype,
    check_int,
    check_ndim,
    check_same_device,
    check_shape,
    check_tensor,
)
from . import _sums
from .plan import ALGORITHMS, cheapest

__all__ = ["displaced_joint", "joint_sum"]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
DEVICES = ("cuda",)  # that sum squares and multiply at once

define("fastseg::box_sum", "(Tensor x, int radius, str backend) -> Tensor")
define(
    "fastseg::displaced_joint",
    "(Tensor p, Tensor q, bool keep, int radius, str algorithm, str backend)"
    " -> (Tensor joint, Tensor p_hat, Tensor q_hat)",
)
define(
    "fastseg::displaced_mix",
    "(Tensor weights, Tensor q, Tensor q_hat, int radius, str algorithm, str backend) -> Tensor",
)

define("fastseg::joint_sum", "(Tensor p, Tensor q, int radius, str backend) -> Tensor")
define("fastseg::mixed_sum", "(Tensor weights, Tensor q, int radius, str backend) -> Tensor")


def _check_fields(
    p: torch.Tensor,
    q: torch.Tensor,
    radius: int,
    mask: torch.Tensor | None,
    backend: str,
    summed: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """p and q in the dtype they are summed in, zero where the mask is."""
    for name, field in (("p", p), ("q", q)):
        check_tensor(name, field)
        check_ndim(name, field, "BKHW")
        check_dtype(name, field, FLOATS)
    batch, _, height, width = p.shape
    check_shape("q", q, (batch, None, height, width))
    check_same_device("q", q, "p", p)
    if height * width > INT32_MAX:
        raise ValueError(f"`p` must have at most {INT32_MAX} pixels an image, got {height}×{width}")
    check_int("radius", radius, 0)
    if radius >= min(height, width):
        raise ValueError(
            f"`radius` must be less than the shorter side of `p` ({min(height, width)}), "
            f"got {radius}"
        )
    if not torch.compiler.is_compiling():  # a compiled graph finds out when it runs
        at_once = summed and p.device.type in DEVICES
        backends.resolve("joint_sum" if at_once else "displaced_joint", p.device, backend)
    dtype = torch.promote_types(torch.promote_types(p.dtype, q.dtype), torch.float32)
    p, q = p.to(dtype), q.to(dtype)
    if mask is None:
        return p, q
    check_tensor("mask", mask)
    check_dtype("mask", mask, (torch.bool,))
    check_shape("mask", mask, (batch, height, width))
    check_same_device("mask", mask, "p", p)
    out = ~mask[:, None]
    return p.masked_fill(out, 0), q.masked_fill(out, 0)


# --- displaced_joint ---------------------------------------------------------------------------


def displaced_joint(
    p: torch.Tensor,
    q: torch.Tensor,
    radius: int,
    mask: torch.Tensor | None = None,
    algorithm: str = "auto",
    backend: str = "auto",
) -> torch.Tensor:
    """Joint distribution of two label fields for every displacement of one against the other, not
    normalised (Ji et al., "Invariant Information Clustering", ICCV 2019, §3.3).

        J[dy,dx,k,l] = Σ_b Σ_(y,x) p[b,k,y,x]·q[b,l,y+dy−T,x+dx−T],  zero outside the image

    Differentiable in `p` and `q`, any number of times.

    Args:
        p: (B,K,H,W), float; half precision is summed in float32.
        q: (B,L,H,W), float.
        radius: T, the largest displacement along an axis, less than the shorter side.
        mask: (B,H,W) bool; pixels where it is False are left out of both.
        algorithm: "direct" sums the products of each displacement, "fft" multiplies spectra; "auto"
            takes what `joint_plan` finds cheaper. The result of "fft" has an error of about the
            dtype's rounding of the largest entry.
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Returns:
        (2T+1,2T+1,K,L), float64 if `p` or `q` is, else float32.

    Raises:
        TypeError, ValueError: an argument is not as above.
        BackendUnavailable: the named backend cannot run here.
    """
    p, q = _check_fields(p, q, radius, mask, backend)
    check_choice("algorithm", algorithm, ("auto", *ALGORITHMS))
    return _joint(p, q, radius, algorithm, backend)


def _joint(p: torch.Tensor, q: torch.Tensor, *options: Any) -> torch.Tensor:
    keep = torch.is_grad_enabled() and (p.requires_grad or q.requires_grad)
    return torch.ops.fastseg.displaced_joint(p, q, keep, *options)[0]


def _is_direct(p: torch.Tensor, others: int, radius: int, algorithm: str) -> bool:
    if algorithm == "auto":
        algorithm = cheapest(p.shape, others, radius).algorithm
    return algorithm == "direct"


@impl("fastseg::displaced_joint", ("CPU", "CUDA"))
def _displaced_joint(p, q, keep, radius, algorithm, backend):
    """`keep` the spectra for the gradients, where there are some."""
    if p.numel() == 0 or q.numel() == 0:
        joint, *nothing = _displaced_joint_fake(p, q, keep, radius, algorithm, backend)
        return joint.zero_(), *nothing
    kernel = backends.load("displaced_joint", p.device, backend)
    spectra: tuple[torch.Tensor, ...] = ()
    with torch.autocast(p.device.type, enabled=False):
        p, q = p.contiguous(), q.contiguous()
        if _is_direct(p, q.shape[1], radius, algorithm):
            joint = kernel.displaced_joint(p, q, radius)
        else:
            joint, spectra = kernel.spectral_joint(p, q, radius)
    p_hat, q_hat = spectra if keep and spectra else (p.new_empty(0), p.new_empty(0))
    return joint, p_hat, q_hat


@register_fake("fastseg::displaced_joint")
def _displaced_joint_fake(p, q, keep, radius, algorithm, backend):
    side = 2 * radius + 1
    joint = p.new_empty((side, side, p.shape[1], q.shape[1]))
    kernel = backends.load("displaced_joint", p.device, backend)
    some = p.numel() and q.numel() and hasattr(kernel, "spectrum_size")
    if not (keep and some) or _is_direct(p, q.shape[1], radius, algorithm):
        return joint, p.new_empty(0), p.new_empty(0)
    size, kind = kernel.spectrum_size(p.shape, radius), p.dtype.to_complex()
    p_hat, q_hat = (x.new_empty((*x.shape[:2], *size), dtype=kind) for x in (p, q))
    return joint, p_hat, q_hat


def _keep_joint(ctx, inputs, output) -> None:
    p, q, _, *ctx.options = inputs
    ctx.save_for_backward(p, q, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _displaced_joint_backward(ctx, grad: torch.Tensor, *_):
    p, q, p_hat, q_hat = ctx.saved_tensors
    of_p, of_q = ctx.needs_input_grad[:2]
    mix = torch.ops.fastseg.displaced_mix
    back = mix(grad, q, q_hat, *ctx.options) if of_p else None
    return back, mix(_adjoint(grad), p, p_hat, *ctx.options) if of_q else None, *([None] * 4)


def _adjoint(weights: torch.Tensor) -> torch.Tensor:
    """The weights of the adjoint of `displaced_mix`."""
    return weights.flip(0, 1).mT


register_autograd("fastseg::displaced_joint", _displaced_joint_backward, setup_context=_keep_joint)


@impl("fastseg::displaced_mix", ("CPU", "CUDA"))
def _displaced_mix(weights, q, q_hat, radius, algorithm, backend):
    if q.numel() == 0 or weights.numel() == 0:
        return _displaced_mix_fake(weights, q).zero_()
    kernel = backends.load("displaced_joint", q.device, backend)
    with torch.autocast(q.device.type, enabled=False):
        weights, q = weights.contiguous(), q.contiguous()
        if _is_direct(q, weights.shape[2], radius, algorithm):
            return kernel.displaced_mix(weights, q, radius)
        return kernel.spectral_mix(weights, q, q_hat, radius)


@register_fake("fastseg::displaced_mix")
def _displaced_mix_fake(weights, q, *_):
    return q.new_empty((q.shape[0], weights.shape[2], *q.shape[2:]))


def _keep_mix(ctx, inputs, output) -> None:
    weights, q, _, *ctx.options = inputs
    ctx.save_for_backward(weights, q)


def _displaced_mix_backward(ctx, grad: torch.Tensor):
    weights, q = ctx.saved_tensors
    nothing = grad.new_empty(0)
    of_weights = _joint(grad, q, *ctx.options)
    of_q = torch.ops.fastseg.displaced_mix(_adjoint(weights), grad, nothing, *ctx.options)
    return of_weights, of_q, *([None] * 4)


register_autograd("fastseg::displaced_mix", _displaced_mix_backward, setup_context=_keep_mix)


# --- joint_sum ---------------------------------------------------------------------------------


def joint_sum(
    p: torch.Tensor,
    q: torch.Tensor,
    radius: int,
    mask: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """The sum of `displaced_joint` over all displacements, at the cost of one of them.

        Σ_d J[d,k,l] = Σ_b Σ_(y,x) p[b,k,y,x]·(□ q)[b,l,y,x],  □ the sum over (2T+1)² pixels

    Differentiable in `p` and `q`, any number of times.

    Args:
        p, q, radius, mask, backend: as in `displaced_joint`.

    Returns:
        (K,L), float64 if `p` or `q` is, else float32.

    Raises:
        TypeError, ValueError: an argument is not as in `displaced_joint`.
        BackendUnavailable: the named backend cannot run here.
    """
    p, q = _check_fields(p, q, radius, mask, backend, summed=True)
    if p.device.type in DEVICES:
        return torch.ops.fastseg.joint_sum(p, q, radius, backend)
    if radius:
        q = torch.ops.fastseg.box_sum(q, radius, backend)
    return _joint(p, q, 0, "direct", backend)[0, 0]


@impl("fastseg::box_sum", ("CPU", "CUDA"))
def _box_sum(x: torch.Tensor, radius: int, backend: str):
    if x.numel() == 0:
        return _box_sum_fake(x, radius, backend)
    return backends.load("box_sum", x.device, backend).box_sum(x.contiguous(), radius)


@register_fake("fastseg::box_sum")
def _box_sum_fake(x, radius, backend):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep_box(ctx, inputs, output) -> None:
    ctx.options = inputs[1:]


def _box_sum_backward(ctx, grad: torch.Tensor):
    return torch.ops.fastseg.box_sum(grad, *ctx.options), None, None


register_autograd("fastseg::box_sum", _box_sum_backward, setup_context=_keep_box)


@impl("fastseg::joint_sum", ("CPU", "CUDA"))
def _joint_sum(p, q, radius, backend):
    if p.numel() == 0 or q.numel() == 0:
        return _joint_sum_fake(p, q).zero_()
    kernel = backends.load("joint_sum", p.device, backend)
    with torch.autocast(p.device.type, enabled=False):
        joint_sum = getattr(kernel, "joint_sum", partial(_sums.joint_sum, kernel))
        return joint_sum(p.contiguous(), q.contiguous(), radius)


@register_fake("fastseg::joint_sum")
def _joint_sum_fake(p, q, *_):
    return p.new_empty((p.shape[1], q.shape[1]))


def _keep_sum(ctx, inputs, output) -> None:
    left, right, *ctx.options = inputs
    ctx.save_for_backward(left, right)


def _joint_sum_backward(ctx, grad: torch.Tensor):
    p, q = ctx.saved_tensors
    of_p, of_q = ctx.needs_input_grad[:2]
    mixed = torch.ops.fastseg.mixed_sum
    back = mixed(grad, q, *ctx.options) if of_p else None
    return back, mixed(grad.mT, p, *ctx.options) if of_q else None, None, None


register_autograd("fastseg::joint_sum", _joint_sum_backward, setup_context=_keep_sum)


@impl("fastseg::mixed_sum", ("CPU", "CUDA"))
def _mixed_sum(weights, q, radius, backend):
    if q.numel() == 0 or weights.numel() == 0:
        return _mixed_sum_fake(weights, q).zero_()
    kernel = backends.load("joint_sum", q.device, backend)
    with torch.autocast(q.device.type, enabled=False):
        mixed_sum = getattr(kernel, "mixed_sum", partial(_sums.mixed_sum, kernel))
        return mixed_sum(weights.contiguous(), q.contiguous(), radius)


@register_fake("fastseg::mixed_sum")
def _mixed_sum_fake(weights, q, *_):
    return q.new_empty((q.shape[0], len(weights), *q.shape[2:]))


def _mixed_sum_backward(ctx, grad: torch.Tensor):
    weights, q = ctx.saved_tensors
    of_weights = torch.ops.fastseg.joint_sum(grad, q, *ctx.options)
    return of_weights, torch.ops.fastseg.mixed_sum(weights.mT, grad, *ctx.options), None, None


register_autograd("fastseg::mixed_sum", _mixed_sum_backward, setup_context=_keep_sum)
