"""CPU launchers of csrc/region*.h."""

import torch

from ... import _native
from ._index import RegionIndex, refuse_label, wide, widened


def region_index(labels: torch.Tensor, num_regions: int) -> tuple[torch.Tensor, ...]:
    """See `_reference.region_index`."""
    batch, height, width = labels.shape
    copy = torch.empty(labels.shape, dtype=torch.int32)
    runs = torch.empty((batch, height * width, 3), dtype=torch.int32)
    num_runs = torch.empty(batch, dtype=torch.int32)
    counts = torch.empty((batch, num_regions), dtype=torch.int32)
    boxes = torch.empty((batch, num_regions, 4), dtype=torch.int32)
    labels = labels.contiguous()
    at = _native.region_index(
        labels.numpy(),
        copy.numpy(),
        runs.numpy(),
        num_runs.numpy(),
        counts.numpy(),
        boxes.numpy(),
        threads=torch.get_num_threads(),
    )
    if at >= 0:
        refuse_label(labels, at, num_regions)
    return copy, runs, num_runs, counts, boxes


def _pixels(x: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """x (B,C,H,W) as it lies: (B,HW,C) and True if it is channels-last, else (B,C,HW) and False."""
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return x.detach().permute(0, 2, 3, 1).flatten(1, 2), True
    return x.detach().contiguous().flatten(2), False


def region_sum(x: torch.Tensor, index: RegionIndex) -> torch.Tensor:
    """See `_reference.region_sum`; x is of any float dtype."""
    x = widened(x)
    pixels, channels_last = _pixels(x)
    out = x.new_empty((*index.counts.shape, x.shape[1]))
    _native.region_sum(
        pixels.numpy(),
        index.runs.numpy(),
        index.num_runs.numpy(),
        out.numpy(),
        channels_last=channels_last,
        threads=torch.get_num_threads(),
    )
    return out


def region_max(x: torch.Tensor, index: RegionIndex) -> tuple[torch.Tensor, torch.Tensor]:
    """See `_reference.region_max`; x is of any float dtype, the maxima as `region_sum`'s sums."""
    x = widened(x)
    pixels, channels_last = _pixels(x)
    out = x.new_empty((*index.counts.shape, x.shape[1]))
    argmax = torch.empty_like(out, dtype=torch.int32)
    _native.region_max(
        pixels.numpy(),
        index.runs.numpy(),
        index.num_runs.numpy(),
        index.counts.numpy(),
        out.numpy(),
        argmax.numpy(),
        channels_last=channels_last,
        threads=torch.get_num_threads(),
    )
    return out, argmax


def region_unpool(z: torch.Tensor, index: RegionIndex, out: torch.Tensor) -> torch.Tensor:
    """See `_reference.region_unpool`; z is of any float dtype."""
    pixels, channels_last = _pixels(out)
    z = z.detach().contiguous()
    if z.element_size() == 2:  # NumPy lacks bfloat16; values are only moved
        z, pixels = z.view(torch.int16), pixels.view(torch.int16)
    _native.region_unpool(
        z.numpy(),
        index.runs.numpy(),
        index.num_runs.numpy(),
        pixels.numpy(),
        channels_last=channels_last,
        threads=torch.get_num_threads(),
    )
    return out


def region_scatter(
    z: torch.Tensor, at: torch.Tensor, labels: torch.Tensor | None, out: torch.Tensor
) -> torch.Tensor:
    """See `_reference.region_scatter`; z is of any float dtype."""
    if z.dtype != wide(z.dtype):
        sums = torch.empty_like(out, dtype=wide(z.dtype))
        return out.copy_(region_scatter(widened(z), at, labels, sums))
    pixels, channels_last = _pixels(out)
    _native.region_scatter(
        z.detach().contiguous().numpy(),
        at.contiguous().numpy(),
        pixels.numpy(),
        channels_last=channels_last,
        threads=torch.get_num_threads(),
    )
    return out


def region_spp(
    x: torch.Tensor, index: RegionIndex, levels: list[int], fill: float | None, places: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `_reference.region_spp`; x is of any float dtype, the maxima as `region_max`'s."""
    x = widened(x)
    pixels, channels_last = _pixels(x)
    bins = sum(level * level for level in levels)
    out = x.new_empty((len(x), index.num_regions * bins, x.shape[1]))
    argmax = torch.empty(out.shape if places else 0, dtype=torch.int32)
    _native.region_spp(
        pixels.numpy(),
        index.labels.numpy(),
        index.boxes.numpy(),
        list(levels),
        fill,
        out.numpy(),
        argmax.numpy() if places else None,
        channels_last=channels_last,
        threads=torch.get_num_threads(),
    )
    return out, argmax


def region_resize(x: torch.Tensor, index: RegionIndex, size: tuple[int, int]) -> torch.Tensor:
    """See `_reference.region_resize`; x is float32 or float64."""
    pixels, channels_last = _pixels(x)
    out = x.new_empty((*index.counts.shape, x.shape[1], *size))
    _native.region_resize(
        pixels.numpy(),
        index.labels.numpy(),
        index.boxes.numpy(),
        out.numpy(),
        channels_last=channels_last,
        threads=torch.get_num_threads(),
    )
    return out


def region_spread(z: torch.Tensor, index: RegionIndex, out: torch.Tensor) -> torch.Tensor:
    """See `_reference.region_spread`; z is float32 or float64."""
    pixels, channels_last = _pixels(out)
    _native.region_spread(
        z.detach().contiguous().numpy(),
        index.labels.numpy(),
        index.boxes.numpy(),
        pixels.numpy(),
        channels_last=channels_last,
        threads=torch.get_num_threads(),
    )
    return out
