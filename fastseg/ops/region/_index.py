"""What every region operator knows of the labels."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["RegionIndex", "refuse_label"]


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


def refuse_label(labels: torch.Tensor, at: int, num_regions: int) -> None:
    """Raise the error about the label of the pixel `at`, counted over the batch."""
    _, height, width = labels.shape
    image, y, x = at // (height * width), at // width % height, at % width
    raise ValueError(
        f"`labels` must be less than `num_regions` ({num_regions}), "
        f"got {int(labels[image, y, x])} at index ({image}, {y}, {x})"
    )
