"""Public functions of the family, the operators they register, and their checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import torch
from torch.library import define, impl, register_autograd, register_fake

from ... import backends
from ...checks import (
    check_choice,
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
from ...interop import as_tensor
from ._reference import MEAN_WEIGHT
from ._status import IEMStatus

__all__ = ["IEMResult", "IEMStatus", "gaussian_filter", "gaussian_inpaint", "iem"]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SMOOTHINGS = ("authors", "paper", "none")
# Initial squares are given in pixels of a picture of this side.
INIT_SIDE = 128

define(
    "fastseg::gaussian_filter",
    "(Tensor x, float sigma, int taps, int passes, str backend) -> Tensor",
)
define(
    "fastseg::iem",
    "(Tensor images, Tensor init, float lo, float hi, int iterations, float lamb, str smoothing,"
    " bool boundary_only, float sigma, int taps, int passes, str backend)"
    " -> (Tensor masks, Tensor error, Tensor steps, Tensor status)",
)


def _check_kernel(sigma: float, taps: int, passes: int) -> None:
    check_number("sigma", sigma, 0, exclusive=True)
    check_int("taps", taps, 1, odd=True)
    check_int("passes", passes, 1)


def _check_backend(operator: str, x: torch.Tensor, backend: str) -> None:
    """It can run here. A compiled graph finds that out when it runs."""
    if not torch.compiler.is_compiling():
        backends.resolve(operator, x.device, backend)


def _wide(x: torch.Tensor) -> torch.Tensor:
    """In float32, if in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


# --- gaussian_filter ---------------------------------------------------------------------------


def gaussian_filter(
    x: torch.Tensor, sigma: float = 5.0, taps: int = 11, passes: int = 2, backend: str = "auto"
) -> torch.Tensor:
    """Blur each plane with a truncated Gaussian, zero outside the image.

        K * x = (A_y ⊗ A_x)ᵖ x,  A_ij ∝ exp(−(i−j)² / 2σ²) for |i−j| ≤ ⌊taps/2⌋, rows summing to 1
        before the image's edge cuts them

    K is linear and its own adjoint, so its gradient is itself: differentiable any number of times.

    Args:
        x: (B,C,H,W), float; half precision is blurred in float32.
        sigma: standard deviation of one pass in pixels.
        taps: odd length of the truncated Gaussian.
        passes: how often it is applied; p passes reach p⌊taps/2⌋ pixels.
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Returns:
        (B,C,H,W), contiguous, dtype and device of `x`.

    Raises:
        TypeError, ValueError: an argument is not as above.
        BackendUnavailable: the named backend cannot run here.
    """
    check_tensor("x", x)
    check_ndim("x", x, "BCHW")
    check_dtype("x", x, FLOATS)
    _check_kernel(sigma, taps, passes)
    _check_backend("gaussian_filter", x, backend)
    return torch.ops.fastseg.gaussian_filter(x, float(sigma), taps, passes, backend)


@impl("fastseg::gaussian_filter", ("CPU", "CUDA"))
def _gaussian_filter(x: torch.Tensor, sigma: float, taps: int, passes: int, backend: str):
    if x.numel() == 0:
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    kernel = backends.load("gaussian_filter", x.device, backend)
    with torch.autocast(x.device.type, enabled=False):
        return kernel.gaussian_filter(_wide(x).contiguous(), sigma, taps, passes).to(x.dtype)


@register_fake("fastseg::gaussian_filter")
def _(x: torch.Tensor, sigma: float, taps: int, passes: int, backend: str):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep_kernel(ctx, inputs, output) -> None:
    ctx.kernel = inputs[1:]


def _gaussian_filter_backward(ctx, grad: torch.Tensor):
    return torch.ops.fastseg.gaussian_filter(grad, *ctx.kernel), None, None, None, None


register_autograd("fastseg::gaussian_filter", _gaussian_filter_backward, setup_context=_keep_kernel)


# --- gaussian_inpaint --------------------------------------------------------------------------


def gaussian_inpaint(
    x: torch.Tensor,
    mask: torch.Tensor,
    sigma: float = 5.0,
    taps: int = 11,
    passes: int = 2,
    backend: str = "auto",
) -> torch.Tensor:
    """Predict every pixel as the Gaussian-weighted mean of the known pixels around it.

        ψ(x, m) = (K*(x·m) + ε Σ x·m) / (K*m + ε Σ m),  ε = 1e-8

    (Savarese et al., "Information-Theoretic Segmentation by Inpainting Error Maximization",
    CVPR 2021, Eq. 7; ε as in the authors' program: a pixel out of reach of every known pixel takes
    the known pixels' mean.) Differentiable in `x` and `mask`, any number of times. Where an image
    has no known pixel at all the result is 0 and the gradient is 0.

    Args:
        x: (B,C,H,W), float; half precision is computed in float32.
        mask: how far each pixel is known, 0 … 1: (B,1,H,W), bool or the dtype of `x`; a batch of
            1 serves every image.
        sigma, taps, passes, backend: as in `gaussian_filter`. The defaults are the authors' two
            11-tap passes; the paper's single filter is `taps=21, passes=1`.

    Returns:
        (B,C,H,W), dtype and device of `x`.

    Raises:
        TypeError, ValueError: an argument is not as above.
        BackendUnavailable: the named backend cannot run here.
    """
    check_tensor("x", x)
    check_tensor("mask", mask)
    check_ndim("x", x, "BCHW")
    check_dtype("x", x, FLOATS)
    check_dtype("mask", mask, (torch.bool, x.dtype))
    check_same_device("mask", mask, "x", x)
    batch, _, height, width = x.shape
    check_shape("mask", mask, (1 if mask.shape[:1] == (1,) else batch, 1, height, width))
    wide = _wide(x)
    mask = mask.to(wide.dtype).expand(batch, -1, -1, -1)

    known = torch.cat([wide * mask, mask], 1)
    blurred = gaussian_filter(known, sigma, taps, passes, backend)
    blurred = blurred + MEAN_WEIGHT * known.sum((2, 3), keepdim=True)
    weight = blurred[:, -1:]
    nothing = weight == 0
    return torch.where(nothing, 0, blurred[:, :-1] / torch.where(nothing, 1, weight)).to(x.dtype)


# --- iem ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IEMResult:
    """What `iem` found, as arrays of the kind that went in."""

    masks: Any  #: (B,1,H,W) bool, True = foreground
    error: Any  #: (B,) float32, inpainting error of the mask; 0 where a layer is empty
    steps: Any  #: (B,) int32, updates computed
    status: Any  #: (B,) int32, an `IEMStatus` each


def iem(
    images: Any,
    init: int | Sequence[int] | Any = (44, 78, 92),
    iterations: int = 150,
    *,
    value_range: tuple[float, float] | None = None,
    lamb: float = 0.001,
    smoothing: str = "authors",
    boundary_only: bool = True,
    sigma: float = 5.0,
    taps: int = 11,
    passes: int = 2,
    backend: str = "auto",
) -> IEMResult:
    """Split each image into foreground and background by inpainting error maximisation.

    Pixels x in [−1,1], mask M, complement M̄, inpainter ψ of `gaussian_inpaint`, |·| the mean over
    channels, ‖·‖² the sum over channels:

        L(M) = Σ M|x−ψ(x,M̄)| / ΣM + Σ M̄|x−ψ(x,M)| / ΣM̄ − λ (Σ M‖x−μ_M‖² + Σ M̄‖x−μ_M̄‖²)

    Each update sets the boundary pixels of M (those with a 4-neighbour of the other value, outside
    the image counted as other) to 1 where ∂L/∂M > 0 and to 0 where it is < 0, then smooths the
    mask (Savarese et al., CVPR 2021, §3.2; Eq. 8's "min" is a misprint). An image stops early at a
    fixed point or a 2-cycle, which leaves its result as if all iterations had run. No training, no
    labels; not differentiable.

    Args:
        images: (B,C,H,W), uint8 or float, tensor, NumPy or DLPack array; any C ≥ 1, any layout.
        init: sides of centred squares, in pixels of an image whose shorter side is 128; of several
            the result of highest inpainting error is kept. Or initial masks (B,1,H,W), bool.
        iterations: most updates of the mask.
        value_range: lowest and highest pixel value; if None, (0, 255) for uint8, (0, 1) for float.
        lamb: λ, weight of the deviation of each layer from its mean colour.
        smoothing: "authors": 1 where at least 4 of the 3×3 pixels are 1. "paper": 1 where more than
            4 of the 6 neighbours (N, S, E, W, NW, SE) are. "none".
        boundary_only: False lets every pixel change (the paper's ablation).
        sigma, taps, passes, backend: as in `gaussian_filter`. Below a sigma of 3 pixels "native"
            and "cuda" may call a few pixels in a thousand otherwise than the exact gradient: they
            count in units of 2⁻²⁹.

    Returns:
        `IEMResult` with masks (B,1,H,W) bool, error, steps and status (B,).

    Raises:
        TypeError, ValueError: an argument is not as above. On the CPU also: a float pixel that is
            NaN or outside `value_range`.
        BackendUnavailable: the named backend cannot run here.
    """
    pixels, back = as_tensor("images", images)
    check_ndim("images", pixels, "BCHW")
    check_dtype("images", pixels, (torch.uint8, *FLOATS))
    if pixels.shape[1] == 0:
        raise ValueError(
            f"`images` must have at least one channel, got shape {tuple(pixels.shape)}"
        )
    lo, hi = check_value_range(pixels, value_range)
    start = _initial_masks(init, pixels)
    check_int("iterations", iterations, 0)
    check_number("lamb", lamb, 0)
    check_choice("smoothing", smoothing, SMOOTHINGS)
    check_choice("boundary_only", boundary_only, (True, False))
    _check_kernel(sigma, taps, passes)
    _check_backend("iem", pixels, backend)
    options = (iterations, float(lamb), smoothing, bool(boundary_only), float(sigma), taps, passes)
    parts = torch.ops.fastseg.iem(pixels.detach(), start, lo, hi, *options, backend)
    return IEMResult(*map(back, parts))


def _initial_masks(init: Any, images: torch.Tensor) -> torch.Tensor:
    """Masks (B,S,H,W), S of them an image."""
    batch, _, height, width = images.shape
    if isinstance(init, Number | Sequence) and not isinstance(init, str):
        sides = (init,) if isinstance(init, Number) else init
        if not sides:
            raise ValueError("`init` must name at least one square, got none")
        masks = images.new_zeros((1, len(sides), height, width), dtype=torch.bool)
        for i, side in enumerate(sides):
            check_int("init", side, 1)
            size = max(1, round(side * min(height, width) / INIT_SIDE))
            top, left = max(0, (height - size) // 2), max(0, (width - size) // 2)
            masks[:, i, top : top + size, left : left + size] = True
        return masks.expand(batch, -1, -1, -1)
    masks, _ = as_tensor("init", init)
    check_ndim("init", masks, "BCHW")
    check_shape("init", masks, (batch, 1, height, width))
    check_dtype("init", masks, (torch.bool,))
    check_same_device("init", masks, "images", images)
    return masks


@impl("fastseg::iem", ("CPU", "CUDA"))
def _iem(images, init, lo, hi, *options_and_backend):
    *options, backend = options_and_backend
    check_within("images", images, lo, hi)
    if images.numel() == 0:
        masks, error, steps, status = _iem_fake(images, init, lo, hi, *options, backend)
        return masks, error.zero_(), steps.zero_(), status.fill_(IEMStatus.EMPTIED)
    kernel = backends.load("iem", images.device, backend)
    with torch.autocast(images.device.type, enabled=False):
        return kernel.iem(_wide(images), init, lo, hi, *options)


@register_fake("fastseg::iem")
def _iem_fake(images, init, lo, hi, *options):
    batch, _, height, width = images.shape
    return (
        images.new_empty((batch, 1, height, width), dtype=torch.bool),
        images.new_empty(batch, dtype=torch.float32),
        images.new_empty(batch, dtype=torch.int32),
        images.new_empty(batch, dtype=torch.int32),
    )
