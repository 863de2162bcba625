"""Public functions of the family, the operators they register, and their checks."""

from collections.abc import Sequence

import torch

from ... import backends
from ...autocast import cast
from ...checks import (
    check_choice,
    check_dtype,
    check_int,
    check_ndim,
    check_same_device,
    check_shape,
    check_tensor,
)
from ...orderings import check_ordering
from . import _operators  # noqa: F401  (its import registers them)

__all__ = ["masked_conv2d", "masked_conv2d_pair"]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SIZES = (1, 3, 5, 7)
ACTIVATIONS = (None, "relu")


def masked_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    ordering: int = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    residual: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """A convolution of stride 1 in which each pixel sees only those at or before it in an ordering.

    For ordering 1, rows from the top and each from the left, with h = ⌊F/2⌋ and d the dilation:

        out[y,x] = bias + Σ_(i,j) weight[i,j]·in[y + (i−2h)d, x + (j−h)d],  0 outside the picture,
                   without the h taps of the last row, i = 2h, right of its middle, j > h

    so the F−1 past rows within reach count entirely and the current row up to the pixel itself. The
    others are this one turned: ordering o of a picture is ordering 1 of the picture and weights
    turned back, the result turned (`fastseg.orderings.turn`). Masked weights have no effect and a
    gradient of exactly zero, all are trained by and by, and ordering 0 is the ordinary convolution
    with padding h·d, for inference. (Ouali et al., "Autoregressive Unsupervised Image
    Segmentation", ECCV 2020, §3.1, Fig. 3c and 3e. The current pixel is seen in every layer, the
    first too: the task is not to generate. Where the paper crops the shifted picture, so that the
    last h rows lose their own pixels, nothing is cropped here.)

    Layers of it have the paper's blind spot (Fig. 6): n rows up, none sees farther than n·h·d to
    the side that comes later in the current row. Differentiable any number of times.

    Args:
        x: (B,C,H,W), float.
        weight: (O,C/groups,F,F), dtype of `x`, F one of 1, 3, 5, 7.
        bias: (O,).
        ordering: 0, or a raster ordering from 1 to 8.
        dilation: d, pixels between taps.
        groups: as of `torch.nn.functional.conv2d`.
        activation: None, or "relu", applied last.
        residual: (B,O,H,W), added before the activation.
        backend: "auto", or one of `fastseg.backends.NAMES`. "native" computes 3×3 kernels of one
            group, without dilation, from 24 channels on, in float32 and float64, with 18 products
            for 32 by Winograd's minimal filtering, and has "torch" compute others: PyTorch's
            convolution (oneDNN, cuDNN). "triton" is one kernel with all of the above, its float32
            products in TF32 where `torch.backends.cudnn.allow_tf32`.

    Returns:
        (B,O,H,W), dtype of `x`, under autocast that; its channels last in memory if those of `x`
        are. From "torch", with neither residual nor activation, a part of a larger tensor, so that
        `is_contiguous` says no.

    Raises:
        TypeError, ValueError: an argument is not as above.
        BackendUnavailable: the named backend cannot run here.
    """
    check_tensor("x", x)
    x, weight, bias, residual = cast(x.device, x, weight, bias, residual)
    check_ordering(ordering, 8)
    _check(x, weight, bias, dilation, groups, activation, backend)
    if residual is not None:
        check_tensor("residual", residual)
        check_shape("residual", residual, (x.shape[0], weight.shape[0], *x.shape[2:]))
        check_dtype("residual", residual, (x.dtype,))
        check_same_device("residual", residual, "x", x)
    options = ordering, dilation, groups, activation == "relu", backend
    return torch.ops.fastseg.masked_conv2d(x, weight, bias, residual, *options)


def masked_conv2d_pair(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    orderings: Sequence[int] = (1, 3),
    dilation: int = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    backend: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """`masked_conv2d` of one batch in two orderings; on a GPU with "triton" in one launch.

    Args:
        orderings: two of 0 … 8.
        x, weight, bias, dilation, groups, activation, backend: as in `masked_conv2d`.

    Returns:
        Two tensors (B,O,H,W).

    Raises:
        TypeError, ValueError: an argument is not as above.
        BackendUnavailable: the named backend cannot run here.
    """
    check_tensor("x", x)
    x, weight, bias = cast(x.device, x, weight, bias)
    if not isinstance(orderings, Sequence) or len(orderings) != 2:
        raise ValueError(f"`orderings` must be two of 0 … 8, got {orderings!r}")
    for ordering in orderings:
        check_ordering(ordering, 8, "orderings")
    _check(x, weight, bias, dilation, groups, activation, backend)
    options = *orderings, dilation, groups, activation == "relu", backend
    return torch.ops.fastseg.masked_conv2d_pair(x, weight, bias, *options)


def _check(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    dilation: int,
    groups: int,
    activation: str | None,
    backend: str,
) -> None:
    check_ndim("x", x, "BCHW")
    check_dtype("x", x, FLOATS)
    check_tensor("weight", weight)
    check_ndim("weight", weight, "OCFF")
    check_dtype("weight", weight, (x.dtype,))
    check_same_device("weight", weight, "x", x)
    outs, channels, height, width = weight.shape
    if height != width or width not in SIZES:
        raise ValueError(f"`weight` must be 1×1, 3×3, 5×5 or 7×7, got {height}×{width}")
    check_int("dilation", dilation, 1)
    check_int("groups", groups, 1)
    if outs == 0 or outs % groups:
        raise ValueError(f"`weight` must have a multiple of `groups` ({groups}) rows, got {outs}")
    if channels == 0 or channels * groups != x.shape[1]:
        raise ValueError(
            f"`weight` must have `x`'s {x.shape[1]} channels ÷ `groups` ({groups}), at least 1, "
            f"got {channels}"
        )
    if bias is not None:
        check_tensor("bias", bias)
        check_shape("bias", bias, (outs,))
        check_dtype("bias", bias, (x.dtype,))
        check_same_device("bias", bias, "x", x)
    check_choice("activation", activation, ACTIVATIONS)
    if not torch.compiler.is_compiling():  # a compiled graph finds out when it runs
        backends.resolve("masked_conv2d", x.device, backend)
