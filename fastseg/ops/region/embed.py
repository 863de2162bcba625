"""Public functions that embed the bounding box of each region, and the operators they register."""

from collections.abc import Sequence

import torch
from torch.library import define, impl, register_autograd, register_fake

from ... import backends
from ...checks import check_dtype, check_int, check_ndim, check_number, check_tensor
from ._index import FLOATS, INDEX, RegionIndex, check_backend, index_of
from .api import is_channels_last, widened

__all__ = ["region_spp"]

define(
    "fastseg::region_spp",
    f"(Tensor x, {INDEX}, int[] levels, float? fill, str backend)"
    " -> (Tensor maxima, Tensor argmax)",
)


def _check(x: torch.Tensor) -> tuple[int, int, int]:
    """x is an image; its (B,H,W)."""
    check_tensor("x", x)
    check_ndim("x", x, "BCHW")
    check_dtype("x", x, FLOATS)
    batch, _, height, width = x.shape
    return batch, height, width


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
    if not isinstance(levels, Sequence):
        raise TypeError(f"`levels` must be a sequence of integers, got {type(levels).__name__}")
    if not levels:
        raise ValueError("`levels` must name at least one level, got none")
    for level in levels:
        check_int("levels", level, 1)
    if fill is not None:
        check_number("fill", fill, -float("inf"), exclusive=True)
    index = index_of(labels, num_regions, shape, "x", x, backend)
    check_backend("region_spp", x, backend)
    maxima, _ = torch.ops.fastseg.region_spp(x, *index.tensors, list(levels), fill, backend)
    bins = sum(level * level for level in levels)
    return maxima.view(len(x), index.num_regions, bins * x.shape[1])


@impl("fastseg::region_spp", ("CPU", "CUDA"))
def _region_spp(x: torch.Tensor, *rest):
    *tensors, levels, fill, backend = rest
    if x.numel() == 0:
        maxima, argmax = _region_spp_fake(x, *rest)
        return maxima.zero_(), argmax.fill_(-1)
    kernel = backends.load("region_spp", x.device, backend)
    with torch.autocast(x.device.type, enabled=False):
        maxima, argmax = kernel.region_spp(widened(x), RegionIndex(*tensors), levels, fill)
        return maxima.to(x.dtype), argmax


@register_fake("fastseg::region_spp")
def _region_spp_fake(x, labels, runs, num_runs, counts, boxes, levels, fill, backend):
    bins = sum(level * level for level in levels)
    shape = x.shape[0], counts.shape[1] * bins, x.shape[1]
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int32)


def _keep_spp(ctx, inputs, output) -> None:
    x, *_, ctx.backend = inputs
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.size, ctx.channels_last = x.shape[2:], is_channels_last(x)


def _region_spp_backward(ctx, grad: torch.Tensor, _):
    back = torch.ops.fastseg.region_scatter(
        grad, *ctx.saved_tensors, *ctx.size, ctx.channels_last, ctx.backend
    )
    return back, None, None, None, None, None, None, None, None


register_autograd("fastseg::region_spp", _region_spp_backward, setup_context=_keep_spp)
