"""Where the regions of label maps are: what every region operator begins with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.library import define, impl, register_fake

from ... import backends
from ...checks import (
    INT32_MAX,
    check_dtype,
    check_int,
    check_ndim,
    check_same_device,
    check_shape,
    check_tensor,
)

__all__ = ["RegionIndex", "region_index"]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# A RegionIndex in an operator's schema.
INDEX = "Tensor labels, Tensor runs, Tensor num_runs, Tensor counts, Tensor boxes"

define(
    "fastseg::region_index",
    "(Tensor labels, int num_regions, str backend)"
    " -> (Tensor copy, Tensor runs, Tensor num_runs, Tensor counts, Tensor boxes)",
)


@dataclass(frozen=True, eq=False)
class RegionIndex:
    """Where the regions of label maps are; `region_index` makes it.

    A run is a stretch of one row in one region. Ignored pixels are in none.
    """

    labels: torch.Tensor  #: (B,H,W) int32, −1 where ignored
    runs: torch.Tensor  #: (B,HW,3) int32: first pixel, end, region, in raster order
    num_runs: torch.Tensor  #: (B,) int32; later rows of `runs` hold anything
    counts: torch.Tensor  #: (B,R) int32, pixels
    boxes: torch.Tensor  #: (B,R,4) int32: top, left, bottom, right; 0 where empty

    @property
    def num_regions(self) -> int:
        return self.counts.shape[1]

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self.labels, self.runs, self.num_runs, self.counts, self.boxes

    def to(self, device: torch.device | str) -> "RegionIndex":
        """The same index on another device."""
        return RegionIndex(*(tensor.to(device) for tensor in self.tensors))

    def __reduce__(self) -> tuple[Callable, tuple]:
        # Most rows of `runs` are spare.
        used = self.runs[:, : int(self.num_runs.max()) if len(self.num_runs) else 0].clone()
        return _restore, (self.labels, used, self.num_runs, self.counts, self.boxes)


def _restore(labels: torch.Tensor, used: torch.Tensor, *rest: torch.Tensor) -> RegionIndex:
    batch, height, width = labels.shape
    runs = used.new_empty((batch, height * width, 3))
    runs[:, : used.shape[1]] = used
    return RegionIndex(labels, runs, *rest)


def widened(x: torch.Tensor) -> torch.Tensor:
    """In float32, if in half precision."""
    return x.to(wide(x.dtype))


def wide(dtype: torch.dtype) -> torch.dtype:
    """In which values of `dtype` are added up."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def refuse_label(labels: torch.Tensor, at: int, num_regions: int) -> None:
    """Raise the error about the label of the pixel `at`, counted over the batch."""
    _, height, width = labels.shape
    image, y, x = at // (height * width), at // width % height, at % width
    raise ValueError(
        f"`labels` must be less than `num_regions` ({num_regions}), "
        f"got {int(labels[image, y, x])} at index ({image}, {y}, {x})"
    )


def check_backend(operator: str, x: torch.Tensor, backend: str) -> None:
    """It can run here. A compiled graph finds that out when it runs."""
    if not torch.compiler.is_compiling():
        backends.resolve(operator, x.device, backend)


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
        TypeError, ValueError: an argument is not as above. On the CPU also: a label of
            `num_regions` or more; on a GPU such labels make the results undefined.
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
    check_backend("region_index", labels, backend)
    return RegionIndex(*torch.ops.fastseg.region_index(labels, num_regions, backend))


@impl("fastseg::region_index", ("CPU", "CUDA"))
def _region_index(labels: torch.Tensor, num_regions: int, backend: str):
    if labels.numel() == 0:
        return tuple(part.zero_() for part in _region_index_fake(labels, num_regions, backend))
    return backends.load("region_index", labels.device, backend).region_index(labels, num_regions)


@register_fake("fastseg::region_index")
def _region_index_fake(labels: torch.Tensor, num_regions: int, backend: str):
    batch, height, width = labels.shape
    size, regions = height * width, num_regions
    shapes = labels.shape, (batch, size, 3), (batch,), (batch, regions), (batch, regions, 4)
    return tuple(labels.new_empty(shape, dtype=torch.int32) for shape in shapes)


def index_of(
    labels: torch.Tensor | RegionIndex,
    num_regions: int | None,
    shape: tuple[int | None, ...],
    name: str,
    x: torch.Tensor,
    backend: str,
) -> RegionIndex:
    """The index that `labels` is or has, for an operator on x, its argument `name`."""
    given = isinstance(labels, RegionIndex)
    tensor = labels.labels if isinstance(labels, RegionIndex) else labels
    check_tensor("labels", tensor)
    check_shape("labels.labels" if given else "labels", tensor, shape)
    check_same_device("labels", tensor, name, x)
    if not isinstance(labels, RegionIndex):
        return region_index(labels, num_regions, backend)  # type: ignore[arg-type]
    if num_regions not in (None, labels.num_regions):
        raise ValueError(
            f"`num_regions` must be that of the index ({labels.num_regions}), got {num_regions}"
        )
    return labels
