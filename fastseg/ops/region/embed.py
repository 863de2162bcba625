"""Public functions that embed the bounding box of each region, and the operators they register."""

from collections.abc import Sequence

import torch
from torch.library import define, impl, register_autograd, register_fake

from ... import backends
from ...checks import check_dtype, check_ints, check_ndim, check_number, check_tensor
from ._index import FLOATS, INDEX, RegionIndex, check_backend, index_of, widened
from .api import is_channels_last, room_for_pixels

__all__ = ["region_resize", "region_spp"]

define(
    "fastseg::region_spp",
    f"(Tensor x, {INDEX}, int[] levels, float? fill, bool places, str backend)"
    " -> (Tensor maxima, Tensor argmax)",
)
define("fastseg::region_resize", f"(Tensor x, {INDEX}, SymInt[] size, str backend) -> Tensor")
define("fastseg::region_spread", f"(Tensor z, {INDEX}, bool channels_last, str backend) -> Tensor")


def _check(x: torch.Tensor) -> tuple[int, int, int]:
    """x is an image; its (B,H,W)."""
    check_tensor("x", x)
    check_ndim("x", x, "BCHW")
    check_dtype("x", x, FLOATS)
    batch, _, height, width = x.shape
    return batch, height, width


def check_levels(levels: object) -> None:
    """`levels` are those of a pyramid."""
    check_ints("levels", levels, 1)
    if not levels:
        raise ValueError("`levels` must name at least one level, got none")


# --- region_spp --------------------------------------------------------------------------------


def region_spp(
    x: torch.Tensor,
    labels: torch.Tensor | RegionIndex,
    num_regions: int | None = None,
    levels: Sequence[int] = (1, 2, 4),
    fill: float | None = 0.0,
    backend: str = "auto",
) -> torch.Tensor:
    """Pool each region's bounding box by a pyramid of maxima (He et al., "Spatial Pyramid Pooling
    in Deep Convolutional Networks", ECCV 2014; as region-wise embedding in InMARS).

    At level l the box, h×w, is split into l×l bins, bin i of an axis from ⌊i·h/l⌋ to ⌈(i+1)·h/l⌉
    as in `adaptive_max_pool2d`. A bin gives the maximum over its pixels, those in the box but not
    of the region counted as `fill`.

    Differentiable in `x`, any number of times. The gradient of a bin goes to one pixel of the
    region, of equal ones the first in raster order; to none where `fill` is larger.

    Args:
        x: (B,C,H,W), float; half precision is computed in float32. Contiguous and channels-last
            tensors are read as they lie, and have gradients of the same layout.
        labels, num_regions: as in `region_pool`.
        levels: the bins along each side of the box, level by level.
        fill: the value of pixels that are not of the region; None leaves them out. A bin without
            any pixel gives 0.
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Returns:
        (B,R,C·Σl²), dtype and device of `x`: level by level, bins in raster order, the C channels
        of a bin together. 0 where the region is empty.

    Raises:
        TypeError, ValueError: an argument is not as above. On the CPU also: a label of
            `num_regions` or more; on a GPU such labels make the results undefined.
        BackendUnavailable: the named backend cannot run here.
    """
    shape = _check(x)
    check_levels(levels)
    if fill is not None:
        check_number("fill", fill, -float("inf"), exclusive=True)
    index = index_of(labels, num_regions, shape, "x", x, backend)
    check_backend("region_spp", x, backend)
    places = x.requires_grad and torch.is_grad_enabled()  # the gradient needs them
    maxima, _ = torch.ops.fastseg.region_spp(x, *index.tensors, list(levels), fill, places, backend)
    bins = sum(level * level for level in levels)
    return maxima.view(len(x), index.num_regions, bins * x.shape[1])


@impl("fastseg::region_spp", ("CPU", "CUDA"))
def _region_spp(x: torch.Tensor, *rest):
    *tensors, levels, fill, places, backend = rest
    if x.numel() == 0:
        maxima, argmax = _region_spp_fake(x, *rest)
        return maxima.zero_(), argmax.fill_(-1)
    kernel = backends.load("region_spp", x.device, backend)
    with torch.autocast(x.device.type, enabled=False):
        maxima, argmax = kernel.region_spp(x, RegionIndex(*tensors), levels, fill, places)
        return maxima.to(x.dtype), argmax


@register_fake("fastseg::region_spp")
def _region_spp_fake(x, labels, runs, num_runs, counts, boxes, levels, fill, places, backend):
    bins = sum(level * level for level in levels)
    shape = x.shape[0], counts.shape[1] * bins, x.shape[1]
    return x.new_empty(shape), x.new_empty(shape if places else 0, dtype=torch.int32)


def _keep_spp(ctx, inputs, output) -> None:
    x, *_, places, ctx.backend = inputs
    if x.requires_grad and not places:
        raise ValueError("`places` must be True where `x` requires a gradient")
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.size, ctx.channels_last = x.shape[2:], is_channels_last(x)


def _region_spp_backward(ctx, grad: torch.Tensor, _):
    back = torch.ops.fastseg.region_scatter(
        grad, *ctx.saved_tensors, None, *ctx.size, ctx.channels_last, ctx.backend
    )
    return back, *[None] * 9


register_autograd("fastseg::region_spp", _region_spp_backward, setup_context=_keep_spp)


# --- region_resize -----------------------------------------------------------------------------


def region_resize(
    x: torch.Tensor,
    labels: torch.Tensor | RegionIndex,
    num_regions: int | None = None,
    size: Sequence[int] = (8, 8),
    backend: str = "auto",
) -> torch.Tensor:
    """Resample each region's bounding box to one size and mask it (the "Interpolation" region-wise
    embedding of InMARS).

        out[b,r,:,i,j] = bilinear(box of r)[:,i,j] · nearest(labels = r in the box)[i,j]

    as by `torch.nn.functional.interpolate` with align_corners=False. Pixels of the box that are not
    of the region take part in the resampling; the mask leaves results 0 whose nearest pixel is not
    of the region.

    It is linear; differentiable in `x`, any number of times.

    Args:
        x: (B,C,H,W), float; half precision is computed in float32. Contiguous and channels-last
            tensors are read as they lie, and have gradients of the same layout.
        labels, num_regions: as in `region_pool`.
        size: (h, w) of a result.
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Returns:
        (B,R,C,h,w), dtype and device of `x`; 0 where the region is empty.

    Raises:
        TypeError, ValueError: an argument is not as above. On the CPU also: a label of
            `num_regions` or more; on a GPU such labels make the results undefined.
        BackendUnavailable: the named backend cannot run here.
    """
    shape = _check(x)
    check_ints("size", size, 1, 2)
    index = index_of(labels, num_regions, shape, "x", x, backend)
    check_backend("region_resize", x, backend)
    return torch.ops.fastseg.region_resize(x, *index.tensors, list(size), backend)


@impl("fastseg::region_resize", ("CPU", "CUDA"))
def _region_resize(x: torch.Tensor, *rest):
    *tensors, size, backend = rest
    if x.numel() == 0:
        return _region_resize_fake(x, *rest).zero_()
    kernel = backends.load("region_resize", x.device, backend)
    with torch.autocast(x.device.type, enabled=False):
        return kernel.region_resize(widened(x), RegionIndex(*tensors), size).to(x.dtype)


@register_fake("fastseg::region_resize")
def _region_resize_fake(x, labels, runs, num_runs, counts, boxes, size, backend):
    return x.new_empty((*counts.shape, x.shape[1], *size))


def _keep_resize(ctx, inputs, output) -> None:
    x, *index, _, ctx.backend = inputs
    ctx.save_for_backward(*index)
    ctx.channels_last = is_channels_last(x)


def _region_resize_backward(ctx, grad: torch.Tensor):
    back = torch.ops.fastseg.region_spread(grad, *ctx.saved_tensors, ctx.channels_last, ctx.backend)
    return back, *[None] * 7


register_autograd("fastseg::region_resize", _region_resize_backward, setup_context=_keep_resize)


@impl("fastseg::region_spread", ("CPU", "CUDA"))
def _region_spread(z: torch.Tensor, *rest):
    *tensors, channels_last, backend = rest
    index, wide = RegionIndex(*tensors), widened(z)
    out = room_for_pixels(wide, index.labels.shape[1:], channels_last)
    if out.numel() == 0 or z.numel() == 0:
        return out.zero_().to(z.dtype)
    kernel = backends.load("region_spread", z.device, backend)
    with torch.autocast(z.device.type, enabled=False):
        return kernel.region_spread(wide, index, out).to(z.dtype)


@register_fake("fastseg::region_spread")
def _(z, labels, runs, num_runs, counts, boxes, channels_last, backend):
    return room_for_pixels(z, labels.shape[1:], channels_last)


def _keep_spread(ctx, inputs, output) -> None:
    z, *index, _, ctx.backend = inputs
    ctx.save_for_backward(*index)
    ctx.size = z.shape[3:]


def _region_spread_backward(ctx, grad: torch.Tensor):
    back = torch.ops.fastseg.region_resize(grad, *ctx.saved_tensors, ctx.size, ctx.backend)
    return back, *[None] * 7


register_autograd("fastseg::region_spread", _region_spread_backward, setup_context=_keep_spread)
