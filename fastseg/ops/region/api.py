"""Public functions of the family, the operators they register, and their checks."""

from collections.abc import Sequence

import torch
from torch.library import define, impl, register_autograd, register_fake

from ... import backends
from ...checks import check_choice, check_dtype, check_ndim, check_tensor
from ._index import FLOATS, INDEX, RegionIndex, check_backend, index_of, wide

__all__ = ["region_pool", "region_unpool"]

REDUCTIONS = ("mean", "max", "sum")

define("fastseg::region_sum", f"(Tensor x, {INDEX}, ScalarType dtype, str backend) -> Tensor")
define("fastseg::region_max", f"(Tensor x, {INDEX}, str backend) -> (Tensor maxima, Tensor argmax)")
define(
    "fastseg::region_unpool",
    f"(Tensor z, {INDEX}, bool channels_last, ScalarType dtype, str backend) -> Tensor",
)
define(
    "fastseg::region_scatter",
    "(Tensor z, Tensor at, Tensor? labels, SymInt height, SymInt width, bool channels_last,"
    " str backend) -> Tensor",
)


def is_channels_last(x: torch.Tensor) -> bool:
    """And not contiguous as it is."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def room_for_pixels(z: torch.Tensor, size: Sequence[int], channels_last: bool) -> torch.Tensor:
    """(B,C,H,W) for what comes of the regions z (B,R,C,…)."""
    (batch, _, channels), (height, width) = z.shape[:3], size
    if channels_last:
        return z.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
    return z.new_empty((batch, channels, height, width))


# --- region_pool -------------------------------------------------------------------------------


def region_pool(
    x: torch.Tensor,
    labels: torch.Tensor | RegionIndex,
    num_regions: int | None = None,
    reduce: str = "mean",
    backend: str = "auto",
) -> torch.Tensor:
    """Reduce each channel over the pixels of each region.

        out[b,r,c] = reduce { x[b,c,y,x] : labels[b,y,x] = r },  0 where no pixel has the label

    Differentiable in `x`, any number of times. The gradient of a maximum goes to one pixel, of
    equal ones the first in raster order, as in `max_pool2d`. A region with a NaN in it gives NaN.

    Args:
        x: (B,C,H,W), float; half precision is reduced in float32. Contiguous and channels-last
            tensors are read as they lie, and have gradients of the same layout.
        labels: (B,H,W), int32 or int64, below `num_regions`; negative = ignored pixel. Or their
            `RegionIndex`.
        num_regions: R; with a `RegionIndex` it may be left out.
        reduce: "mean", "max" or "sum".
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Returns:
        (B,R,C), dtype and device of `x`.

    Raises:
        TypeError, ValueError: an argument is not as above. On the CPU also: a label of
            `num_regions` or more; on a GPU such labels make the results undefined.
        BackendUnavailable: the named backend cannot run here.
    """
    check_tensor("x", x)
    check_ndim("x", x, "BCHW")
    check_dtype("x", x, FLOATS)
    check_choice("reduce", reduce, REDUCTIONS)
    batch, _, height, width = x.shape
    index = index_of(labels, num_regions, (batch, height, width), "x", x, backend)
    check_backend("region_max" if reduce == "max" else "region_sum", x, backend)
    if reduce == "max":
        return torch.ops.fastseg.region_max(x, *index.tensors, backend)[0]
    if reduce == "sum":
        return torch.ops.fastseg.region_sum(x, *index.tensors, x.dtype, backend)
    # A sum may be too large for half precision where the mean is not.
    sums = torch.ops.fastseg.region_sum(x, *index.tensors, wide(x.dtype), backend)
    return (sums / index.counts.clamp(min=1)[..., None]).to(x.dtype)


def _pooled(x: torch.Tensor, counts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.new_empty((*counts.shape, x.shape[1]), dtype=dtype)


@impl("fastseg::region_sum", ("CPU", "CUDA"))
def _region_sum(x: torch.Tensor, *rest):
    *tensors, dtype, backend = rest
    index = RegionIndex(*tensors)
    if x.numel() == 0:
        return _pooled(x, index.counts, dtype).zero_()
    kernel = backends.load("region_sum", x.device, backend)
    with torch.autocast(x.device.type, enabled=False):
        return kernel.region_sum(x, index).to(dtype)


@register_fake("fastseg::region_sum")
def _(x, labels, runs, num_runs, counts, boxes, dtype, backend):
    return _pooled(x, counts, dtype)


def _keep_sum(ctx, inputs, output) -> None:
    x, *index, _, ctx.backend = inputs
    ctx.save_for_backward(*index)
    ctx.channels_last, ctx.dtype = is_channels_last(x), x.dtype


def _region_sum_backward(ctx, grad: torch.Tensor):
    back = torch.ops.fastseg.region_unpool(
        grad, *ctx.saved_tensors, ctx.channels_last, ctx.dtype, ctx.backend
    )
    return back, *[None] * 7


register_autograd("fastseg::region_sum", _region_sum_backward, setup_context=_keep_sum)


@impl("fastseg::region_max", ("CPU", "CUDA"))
def _region_max(x: torch.Tensor, *index_and_backend):
    *tensors, backend = index_and_backend
    index = RegionIndex(*tensors)
    if x.numel() == 0:
        return (
            _pooled(x, index.counts, x.dtype).zero_(),
            _pooled(x, index.counts, torch.int32).fill_(-1),
        )
    kernel = backends.load("region_max", x.device, backend)
    with torch.autocast(x.device.type, enabled=False):
        maxima, argmax = kernel.region_max(x, index)
        return maxima.to(x.dtype), argmax


@register_fake("fastseg::region_max")
def _(x, labels, runs, num_runs, counts, boxes, backend):
    return _pooled(x, counts, x.dtype), _pooled(x, counts, torch.int32)


def _keep_max(ctx, inputs, output) -> None:
    x, labels, *_, ctx.backend = inputs
    ctx.save_for_backward(output[1], labels)
    ctx.mark_non_differentiable(output[1])
    ctx.size, ctx.channels_last = x.shape[2:], is_channels_last(x)


def _region_max_backward(ctx, grad: torch.Tensor, _):
    back = torch.ops.fastseg.region_scatter(
        grad, *ctx.saved_tensors, *ctx.size, ctx.channels_last, ctx.backend
    )
    return back, None, None, None, None, None, None


register_autograd("fastseg::region_max", _region_max_backward, setup_context=_keep_max)


@impl("fastseg::region_scatter", ("CPU", "CUDA"))
def _region_scatter(z, at, labels, height, width, channels_last, backend):
    out = room_for_pixels(z, (height, width), channels_last)
    if out.numel() == 0:
        return out
    kernel = backends.load("region_scatter", z.device, backend)
    with torch.autocast(z.device.type, enabled=False):
        return kernel.region_scatter(z, at, labels, out)


@register_fake("fastseg::region_scatter")
def _(z, at, labels, height, width, channels_last, backend):
    return room_for_pixels(z, (height, width), channels_last)


def _keep_scatter(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[1])


def _region_scatter_backward(ctx, grad: torch.Tensor):
    (at,) = ctx.saved_tensors
    back = grad.flatten(2).gather(2, at.clamp(min=0).long().mT).mT.masked_fill(at < 0, 0)
    return back, *[None] * 6


register_autograd("fastseg::region_scatter", _region_scatter_backward, setup_context=_keep_scatter)


# --- region_unpool -----------------------------------------------------------------------------


def region_unpool(
    z: torch.Tensor, labels: torch.Tensor | RegionIndex, backend: str = "auto"
) -> torch.Tensor:
    """Give each pixel the vector of its region.

        out[b,c,y,x] = z[b, labels[b,y,x], c],  0 where the label is negative

    It is the adjoint of `region_pool(reduce="sum")`; differentiable in `z`, any number of times.

    Args:
        z: (B,R,C), float.
        labels: (B,H,W), int32 or int64, below R; negative = ignored pixel. Or their `RegionIndex`.
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Returns:
        (B,C,H,W), contiguous, dtype and device of `z`.

    Raises:
        TypeError, ValueError: an argument is not as above. On the CPU also: a label of
            R or more; on a GPU such labels make the results undefined.
        BackendUnavailable: the named backend cannot run here.
    """
    check_tensor("z", z)
    check_ndim("z", z, "BRC")
    check_dtype("z", z, FLOATS)
    batch, regions, _ = z.shape
    if regions == 0:
        raise ValueError(f"`z` must have at least one region, got shape {tuple(z.shape)}")
    if isinstance(labels, RegionIndex) and regions != labels.num_regions:
        raise ValueError(
            f"`z` must have the regions of the index ({labels.num_regions}), got {regions}"
        )
    index = index_of(labels, regions, (batch, None, None), "z", z, backend)
    check_backend("region_unpool", z, backend)
    return torch.ops.fastseg.region_unpool(z, *index.tensors, False, z.dtype, backend)


@impl("fastseg::region_unpool", ("CPU", "CUDA"))
def _region_unpool(z: torch.Tensor, *rest):
    *tensors, channels_last, dtype, backend = rest
    index = RegionIndex(*tensors)
    z = z.to(dtype)
    out = room_for_pixels(z, index.labels.shape[1:], channels_last)
    if out.numel() == 0:
        return out
    kernel = backends.load("region_unpool", z.device, backend)
    return kernel.region_unpool(z, index, out)


@register_fake("fastseg::region_unpool")
def _(z, labels, runs, num_runs, counts, boxes, channels_last, dtype, backend):
    return room_for_pixels(z.to(dtype), labels.shape[1:], channels_last)


def _keep_unpool(ctx, inputs, output) -> None:
    z, *index, _, _, ctx.backend = inputs
    ctx.save_for_backward(*index)
    ctx.dtype = z.dtype


def _region_unpool_backward(ctx, grad: torch.Tensor):
    back = torch.ops.fastseg.region_sum(grad, *ctx.saved_tensors, ctx.dtype, ctx.backend)
    return back, *[None] * 8


register_autograd("fastseg::region_unpool", _region_unpool_backward, setup_context=_keep_unpool)
