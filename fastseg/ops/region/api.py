"""Public functions of the family, the operators they register, and their checks."""

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
from ._index import RegionIndex

__all__ = ["region_index", "region_pool", "region_unpool"]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
REDUCTIONS = ("mean", "max", "sum")
INDEX = "Tensor labels, Tensor runs, Tensor num_runs, Tensor counts, Tensor boxes"

define(
    "fastseg::region_index",
    "(Tensor labels, int num_regions, str backend)"
    " -> (Tensor runs, Tensor num_runs, Tensor counts, Tensor boxes)",
)
define("fastseg::region_sum", f"(Tensor x, {INDEX}, str backend) -> Tensor")
define("fastseg::region_max", f"(Tensor x, {INDEX}, str backend) -> (Tensor maxima, Tensor argmax)")
define("fastseg::region_unpool", f"(Tensor z, {INDEX}, bool channels_last, str backend) -> Tensor")
define(
    "fastseg::region_scatter",
    "(Tensor z, Tensor at, SymInt height, SymInt width, bool channels_last, str backend) -> Tensor",
)


def _check_backend(operator: str, x: torch.Tensor, backend: str) -> None:
    """It can run here. A compiled graph finds that out when it runs."""
    if not torch.compiler.is_compiling():
        backends.resolve(operator, x.device, backend)


def _wide(x: torch.Tensor) -> torch.Tensor:
    """In float32, if in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _is_channels_last(x: torch.Tensor) -> bool:
    """And not contiguous as it is."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _pixels(z: torch.Tensor, height: int, width: int, channels_last: bool) -> torch.Tensor:
    """Room for pixels (B,C,H,W) of vectors like those of z (B,R,C)."""
    batch, _, channels = z.shape
    if channels_last:
        return z.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
    return z.new_empty((batch, channels, height, width))


# --- region_index ------------------------------------------------------------------------------


def region_index(labels: torch.Tensor, num_regions: int, backend: str = "auto") -> RegionIndex:
    """Find the runs, sizes and bounding boxes of the regions once, for any number of operators.

    Every region operator takes the index in place of `labels`, and then skips this step. Given
    labels they take it themselves.

    Args:
        labels: (B,H,W), int32 or int64, below `num_regions`; negative = ignored pixel. Fewer than
            2³¹ pixels an image.
        num_regions: R; a label need not occur.
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Returns:
        `RegionIndex`, on the device of `labels`; it can be pickled and moved.

    Raises:
        TypeError, ValueError: an argument is not as above. On the CPU also: a label of `num_regions`
            or more; on a GPU such labels make the results undefined.
        BackendUnavailable: the named backend cannot run here.
    """
    check_tensor("labels", labels)
    check_ndim("labels", labels, "BHW")
    check_dtype("labels", labels, (torch.int32, torch.int64))
    check_int("num_regions", num_regions, 1)
    _, height, width = labels.shape
    if height * width > INT32_MAX:
        raise ValueError(
            f"`labels` must have at most {INT32_MAX} pixels an image, got {height}×{width}"
        )
    _check_backend("region_index", labels, backend)
    parts = torch.ops.fastseg.region_index(labels, num_regions, backend)
    return RegionIndex(labels.clamp(min=-1).to(torch.int32), *parts)


@impl("fastseg::region_index", ("CPU", "CUDA"))
def _region_index(labels: torch.Tensor, num_regions: int, backend: str):
    if labels.numel() == 0:
        return tuple(part.zero_() for part in _region_index_fake(labels, num_regions, backend))
    return backends.load("region_index", labels.device, backend).region_index(labels, num_regions)


@register_fake("fastseg::region_index")
def _region_index_fake(labels: torch.Tensor, num_regions: int, backend: str):
    batch, height, width = labels.shape
    shapes = (batch, height * width, 3), (batch,), (batch, num_regions), (batch, num_regions, 4)
    return tuple(labels.new_empty(shape, dtype=torch.int32) for shape in shapes)


def _index_of(
    labels: torch.Tensor | RegionIndex,
    num_regions: int | None,
    shape: tuple[int | None, int | None, int | None],
    x: torch.Tensor,
    backend: str,
) -> RegionIndex:
    """The index that `labels` is or has; its labels have the `shape` and the device of x."""
    name = "labels.labels" if isinstance(labels, RegionIndex) else "labels"
    tensor = labels.labels if isinstance(labels, RegionIndex) else labels
    check_tensor(name, tensor)
    check_shape(name, tensor, shape)
    check_same_device(name, tensor, "x", x)
    if not isinstance(labels, RegionIndex):
        return region_index(labels, num_regions, backend)  # type: ignore[arg-type]
    if num_regions not in (None, labels.num_regions):
        raise ValueError(
            f"`num_regions` must be that of the index ({labels.num_regions}), got {num_regions}"
        )
    return labels


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
        TypeError, ValueError: an argument is not as above. On the CPU also: a label of `num_regions`
            or more; on a GPU such labels make the results undefined.
        BackendUnavailable: the named backend cannot run here.
    """
    check_tensor("x", x)
    check_ndim("x", x, "BCHW")
    check_dtype("x", x, FLOATS)
    check_choice("reduce", reduce, REDUCTIONS)
    batch, _, height, width = x.shape
    index = _index_of(labels, num_regions, (batch, height, width), x, backend)
    _check_backend("region_max" if reduce == "max" else "region_sum", x, backend)
    if reduce == "max":
        return torch.ops.fastseg.region_max(x, *index.tensors, backend)[0]
    if reduce == "sum":
        return torch.ops.fastseg.region_sum(x, *index.tensors, backend)
    wide = _wide(x)  # a sum may be too large for half precision where the mean is not
    sums = torch.ops.fastseg.region_sum(wide, *index.tensors, backend)
    return (sums / index.counts.clamp(min=1)[..., None]).to(x.dtype)


def _pooled(x: torch.Tensor, counts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.new_empty((*counts.shape, x.shape[1]), dtype=dtype)


@impl("fastseg::region_sum", ("CPU", "CUDA"))
def _region_sum(x: torch.Tensor, *index_and_backend):
    *tensors, backend = index_and_backend
    index = RegionIndex(*tensors)
    if x.numel() == 0:
        return _pooled(x, index.counts, x.dtype).zero_()
    kernel = backends.load("region_sum", x.device, backend)
    with torch.autocast(x.device.type, enabled=False):
        return kernel.region_sum(_wide(x), index).to(x.dtype)


@register_fake("fastseg::region_sum")
def _(x, labels, runs, num_runs, counts, boxes, backend):
    return _pooled(x, counts, x.dtype)


def _keep_sum(ctx, inputs, output) -> None:
    x, *index, ctx.backend = inputs
    ctx.save_for_backward(*index)
    ctx.channels_last = _is_channels_last(x)


def _region_sum_backward(ctx, grad: torch.Tensor):
    back = torch.ops.fastseg.region_unpool(
        grad, *ctx.saved_tensors, ctx.channels_last, ctx.backend
    )
    return back, None, None, None, None, None, None


register_autograd("fastseg::region_sum", _region_sum_backward, setup_context=_keep_sum)


@impl("fastseg::region_max", ("CPU", "CUDA"))
def _region_max(x: torch.Tensor, *index_and_backend):
    *tensors, backend = index_and_backend
    index = RegionIndex(*tensors)
    if x.numel() == 0:
        return (
            _pooled(x, index.counts, x.dtype).zero_(),
            _pooled(x, index.counts, torch.int64).fill_(-1),
        )
    kernel = backends.load("region_max", x.device, backend)
    with torch.autocast(x.device.type, enabled=False):
        maxima, argmax = kernel.region_max(_wide(x), index)
        return maxima.to(x.dtype), argmax


@register_fake("fastseg::region_max")
def _(x, labels, runs, num_runs, counts, boxes, backend):
    return _pooled(x, counts, x.dtype), _pooled(x, counts, torch.int64)


def _keep_max(ctx, inputs, output) -> None:
    x, *_, ctx.backend = inputs
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.size, ctx.channels_last = x.shape[2:], _is_channels_last(x)


def _region_max_backward(ctx, grad: torch.Tensor, _):
    back = torch.ops.fastseg.region_scatter(
        grad, *ctx.saved_tensors, *ctx.size, ctx.channels_last, ctx.backend
    )
    return back, None, None, None, None, None, None


register_autograd("fastseg::region_max", _region_max_backward, setup_context=_keep_max)


@impl("fastseg::region_scatter", ("CPU", "CUDA"))
def _region_scatter(z, at, height, width, channels_last, backend):
    wide = _wide(z)
    out = _pixels(wide, height, width, channels_last)
    if out.numel() == 0:
        return out.to(z.dtype)
    kernel = backends.load("region_scatter", z.device, backend)
    with torch.autocast(z.device.type, enabled=False):
        return kernel.region_scatter(wide, at, out).to(z.dtype)


@register_fake("fastseg::region_scatter")
def _(z, at, height, width, channels_last, backend):
    return _pixels(z, height, width, channels_last)


def _keep_scatter(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[1])


def _region_scatter_backward(ctx, grad: torch.Tensor):
    (at,) = ctx.saved_tensors
    back = grad.flatten(2).gather(2, at.clamp(min=0).mT).mT.masked_fill(at < 0, 0)
    return back, None, None, None, None, None


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
        TypeError, ValueError: an argument is not as above. On the CPU also: a label of R or more; on
            a GPU such labels make the results undefined.
        BackendUnavailable: the named backend cannot run here.
    """
    check_tensor("z", z)
    check_ndim("z", z, "BRC")
    check_dtype("z", z, FLOATS)
    index = _index_of(labels, z.shape[1], (z.shape[0], None, None), z, backend)
    _check_backend("region_unpool", z, backend)
    return torch.ops.fastseg.region_unpool(z, *index.tensors, False, backend)


@impl("fastseg::region_unpool", ("CPU", "CUDA"))
def _region_unpool(z: torch.Tensor, *rest):
    *tensors, channels_last, backend = rest
    index = RegionIndex(*tensors)
    out = _pixels(z, *index.labels.shape[1:], channels_last)
    if out.numel() == 0:
        return out
    kernel = backends.load("region_unpool", z.device, backend)
    return kernel.region_unpool(z, index, out)


@register_fake("fastseg::region_unpool")
def _(z, labels, runs, num_runs, counts, boxes, channels_last, backend):
    return _pixels(z, *labels.shape[1:], channels_last)


def _keep_unpool(ctx, inputs, output) -> None:
    _, *index, _, ctx.backend = inputs
    ctx.save_for_backward(*index)


def _region_unpool_backward(ctx, grad: torch.Tensor):
    back = torch.ops.fastseg.region_sum(grad, *ctx.saved_tensors, ctx.backend)
    return back, None, None, None, None, None, None, None


register_autograd("fastseg::region_unpool", _region_unpool_backward, setup_context=_keep_unpool)
