"""The public function of the family, the operator it registers, and its checks."""

import torch
from torch.library import define, impl, register_autograd, register_fake

from ... import backends
from ...checks import (
    check_dtype,
    check_int,
    check_ndim,
    check_number,
    check_same_device,
    check_shape,
    check_tensor,
    check_value_range,
    check_within,
)
from . import _reference

__all__ = ["soft_ncut"]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

define(
    "fastseg::ncut_sums",
    "(Tensor p, Tensor image, float lo, float hi, int radius, float sigma_color,"
    " float sigma_space, str backend)"
    " -> (Tensor inner, Tensor outer, Tensor filtered, Tensor degree)",
)
define(
    "fastseg::ncut_back",
    "(Tensor of_inner, Tensor of_outer, Tensor filtered, Tensor degree, str backend) -> Tensor",
)


def soft_ncut(
    p: torch.Tensor,
    image: torch.Tensor,
    radius: int = 5,
    sigma_color: float = 10.0,
    sigma_space: float = 4.0,
    *,
    value_range: tuple[float, float] | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Soft normalised cut of each image into K segments, from 0 (no affinity is cut) to K.

        L = K − Σ_k assoc(A_k,A_k) / assoc(A_k,V)
        assoc(A_k,A_k) = Σ_ij w_ij p_ik p_jk,  assoc(A_k,V) = Σ_ij w_ij p_ik
        w_ij = exp(−‖c_i−c_j‖²/σ_I²)·exp(−‖x_i−x_j‖²/σ_X²) where ‖x_i−x_j‖ < radius, else 0

    (Xia and Kulis, "W-Net: A Deep Model for Fully Unsupervised Image Segmentation", 2017, §3.2.)
    Colours c count from 0 to 255, positions x in pixels, j runs over the image alone and i itself
    is among its neighbours. A segment of no pixel, 0/0, adds 0. The image is a constant: the loss
    is differentiable in `p`, any number of times.

    Args:
        p: (B,K,H,W) class probabilities, float; half precision is summed in float32. They need not
            sum to 1, but the range of L above is for those that do.
        image: (B,C,H,W), uint8 or float, any C ≥ 1.
        radius: pixels; neighbours are closer than that, so 5 makes 69 of them.
        sigma_color: σ_I, in steps of 255.
        sigma_space: σ_X, pixels.
        value_range: lowest and highest pixel value, which count as 0 and 255; if None, (0, 255) for
            uint8, (0, 1) for float.
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Returns:
        (B,), float64 if `p` is, else float32.

    Raises:
        TypeError, ValueError: an argument is not as above. On the CPU also: a float pixel that is
            NaN or outside `value_range`.
        BackendUnavailable: the named backend cannot run here.
    """
    check_tensor("p", p)
    check_tensor("image", image)
    check_ndim("p", p, "BKHW")
    check_ndim("image", image, "BCHW")
    check_dtype("p", p, FLOATS)
    check_dtype("image", image, (torch.uint8, *FLOATS))
    batch, classes, height, width = p.shape
    check_shape("image", image, (batch, None, height, width))
    if image.shape[1] == 0:
        raise ValueError(f"`image` must have at least one channel, got shape {tuple(image.shape)}")
    check_same_device("image", image, "p", p)
    check_int("radius", radius, 1)
    check_number("sigma_color", sigma_color, 0, exclusive=True)
    check_number("sigma_space", sigma_space, 0, exclusive=True)
    lo, hi = check_value_range(image, value_range)
    if not torch.compiler.is_compiling():  # a compiled graph finds out when it runs
        backends.resolve("ncut_sums", p.device, backend)
    p = p.to(torch.promote_types(p.dtype, torch.float32))
    options = lo, hi, radius, float(sigma_color), float(sigma_space), backend
    inner, outer, _, _ = torch.ops.fastseg.ncut_sums(p, image.detach(), *options)
    return classes - (inner / (outer + (outer == 0))).sum(1)  # 0/1 where there is no pixel


@impl("fastseg::ncut_sums", ("CPU", "CUDA"))
def _ncut_sums(p, image, lo, hi, radius, sigma_color, sigma_space, backend):
    check_within("image", image, lo, hi)
    if p.numel() == 0:
        inner, outer, filtered, degree = _ncut_sums_fake(p, image)
        return inner.zero_(), outer.zero_(), filtered, degree
    kernel = backends.load("ncut_sums", p.device, backend)
    colours = image.detach().to(p.dtype)
    if (lo, hi) != (0, 255):
        colours = (colours - lo) * (255 / (hi - lo))
    with torch.autocast(p.device.type, enabled=False):
        return kernel.ncut_sums(
            p.contiguous(), colours.contiguous(), radius, sigma_color, sigma_space
        )


@register_fake("fastseg::ncut_sums")
def _ncut_sums_fake(p, image, *options):
    batch, classes, height, width = p.shape
    filtered = torch.empty_like(p, memory_format=torch.contiguous_format)
    degree = p.new_empty((batch, height, width))
    return p.new_empty((batch, classes)), p.new_empty((batch, classes)), filtered, degree


def _keep(ctx, inputs, output) -> None:
    _, image, *ctx.options = inputs
    _, _, filtered, degree = output
    ctx.save_for_backward(image, filtered, degree)
    ctx.mark_non_differentiable(degree)
    ctx.set_materialize_grads(False)


def _ncut_sums_backward(ctx, of_inner, of_outer, of_filtered, _):
    """What was kept has the gradient; only a gradient of the filtered planes asks for W again."""
    image, filtered, degree = ctx.saved_tensors
    grad = None
    if of_inner is not None or of_outer is not None:
        of_inner, of_outer = (
            degree.new_zeros(filtered.shape[:2]) if of is None else of
            for of in (of_inner, of_outer)
        )
        if torch.is_grad_enabled():  # for the second derivative
            grad = _reference.ncut_back(of_inner, of_outer, filtered, degree)
        else:
            back = torch.ops.fastseg.ncut_back
            grad = back(of_inner, of_outer, filtered, degree, ctx.options[-1])
    if of_filtered is not None:
        more = torch.ops.fastseg.ncut_sums(of_filtered, image, *ctx.options)[2]
        grad = more if grad is None else grad + more
    return grad, *([None] * 7)


register_autograd("fastseg::ncut_sums", _ncut_sums_backward, setup_context=_keep)


@impl("fastseg::ncut_back", ("CPU", "CUDA"))
def _ncut_back(of_inner, of_outer, filtered, degree, backend):
    if filtered.numel() == 0:
        return torch.empty_like(filtered)
    kernel = backends.load("ncut_sums", filtered.device, backend)
    return kernel.ncut_back(of_inner.contiguous(), of_outer.contiguous(), filtered, degree)


@register_fake("fastseg::ncut_back")
def _ncut_back_fake(of_inner, of_outer, filtered, degree, backend):
    return torch.empty_like(filtered)
