"""The definition of the region operators in plain PyTorch: any device, float dtype."""

from collections.abc import Iterator, Sequence
from itertools import product

import torch
import torch.nn.functional as F

from ._index import RegionIndex, refuse_label, widened


def region_index(labels: torch.Tensor, num_regions: int) -> tuple[torch.Tensor, ...]:
    """labels (B,H,W) → those of `RegionIndex`, all int32."""
    batch, height, width = labels.shape
    pixel = torch.arange(height * width, device=labels.device).expand(batch, -1)
    if labels.device.type == "cpu" and (large := labels >= num_regions).any():
        refuse_label(labels, int(large.flatten().int().argmax()), num_regions)
    begins = labels >= 0
    ends = begins.clone()
    begins[..., 1:] &= labels[..., 1:] != labels[..., :-1]
    ends[..., :-1] &= labels[..., :-1] != labels[..., 1:]
    # The i-th pixel that begins or ends a run goes to row i, every other to a spare one.
    runs = pixel.new_zeros((3, batch, height * width + 1))
    values = (begins, pixel), (ends, pixel + 1), (begins, labels.flatten(1).long())
    for row, (edge, value) in zip(runs, values, strict=True):
        at = edge.flatten(1).cumsum(1) - 1
        row.scatter_(1, torch.where(edge.flatten(1), at, height * width), value)

    at = _flat(labels, num_regions)
    zeros = at.new_zeros((batch, num_regions + 1))
    y, x = pixel // width, pixel % width
    box = [
        zeros.scatter_reduce(1, at, edge, reduce, include_self=False)
        for edge, reduce in ((y, "amin"), (x, "amin"), (y + 1, "amax"), (x + 1, "amax"))
    ]
    return (
        labels.clamp(min=-1).int().contiguous(),
        runs[..., :-1].permute(1, 2, 0).int().contiguous(),
        begins.sum((1, 2), dtype=torch.int32),
        zeros.scatter_add(1, at, torch.ones_like(at))[:, :-1].int().contiguous(),
        torch.stack(box, -1)[:, :-1].int().contiguous(),
    )


def _flat(labels: torch.Tensor, num_regions: int) -> torch.Tensor:
    """(B,HW) int64; the ignored pixels make a region of their own, the last."""
    flat = labels.flatten(1).long()
    return torch.where(flat < 0, num_regions, flat)


def region_sum(x: torch.Tensor, index: RegionIndex) -> torch.Tensor:
    """x (B,C,H,W) → sums (B,R,C), in float32 of half precision."""
    x = widened(x)
    batch, channels = x.shape[:2]
    at = _flat(index.labels, index.num_regions)[:, None].expand(-1, channels, -1)
    sums = x.new_zeros((batch, channels, index.num_regions + 1)).scatter_add(2, at, x.flatten(2))
    return sums[..., :-1].mT.contiguous()


def region_max(x: torch.Tensor, index: RegionIndex) -> tuple[torch.Tensor, torch.Tensor]:
    """x (B,C,H,W) → maxima (B,R,C), 0 where the region is empty, and the pixels (B,R,C) int32 where
    they are, in raster order the first, −1 where the region is empty."""
    batch, channels, height, width = x.shape
    size = height * width
    at = _flat(index.labels, index.num_regions)[:, None].expand(-1, channels, -1)
    flat = x.flatten(2)
    maxima = x.new_zeros((batch, channels, index.num_regions + 1))
    maxima = maxima.scatter_reduce(2, at, flat, "amax", include_self=False)
    largest = (flat == maxima.gather(2, at)) | flat.isnan()
    pixel = torch.where(largest, torch.arange(size, device=x.device), size)
    first = torch.full_like(maxima, -1, dtype=torch.int64)
    first = first.scatter_reduce(2, at, pixel, "amin", include_self=False)
    return maxima[..., :-1].mT.contiguous(), first[..., :-1].mT.int().contiguous()


def region_unpool(z: torch.Tensor, index: RegionIndex, out: torch.Tensor) -> torch.Tensor:
    """z (B,R,C) → (B,C,H,W) in `out`, 0 where the label is ignored."""
    at = index.labels.flatten(1).long()[..., None]
    rows = z.gather(1, at.clamp(min=0).expand(-1, -1, z.shape[2]))
    return out.copy_(torch.where(at < 0, 0, rows).mT.reshape(out.shape))


def region_scatter(
    z: torch.Tensor, at: torch.Tensor, labels: torch.Tensor | None, out: torch.Tensor
) -> torch.Tensor:
    """z (B,R,C) at the pixels at (B,R,C), −1 for none → (B,C,H,W) in `out`, 0 elsewhere. With
    `labels` (B,H,W) each pixel is of the region that it has for its label."""
    # An absent one adds its zero to the first pixel.
    z, at = widened(z).masked_fill(at < 0, 0), at.clamp(min=0).long()
    flat = z.new_zeros((*out.shape[:2], out.shape[2] * out.shape[3]))
    return out.copy_(flat.scatter_add_(2, at.mT, z.mT).view(out.shape))


def region_spp(
    x: torch.Tensor, index: RegionIndex, levels: list[int], fill: float | None, places: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """x (B,C,H,W) → maxima (B,R·Σl²,C) over the bins of every region, and their pixels as in
    `region_max`, −1 also where `fill` is larger; no `places`, none of them."""
    batch, channels, _, width = x.shape
    bins = sum(level * level for level in levels)
    out = x.new_zeros((batch, index.num_regions, bins, channels))
    argmax = torch.full_like(out, -1, dtype=torch.int32)
    for b, boxes in enumerate(index.boxes.tolist()):
        for r, (top, left, bottom, right) in enumerate(boxes):
            own = index.labels[b, top:bottom, left:right] == r
            box = x[b, :, top:bottom, left:right]
            for i, (rows, columns) in enumerate(_bins(bottom - top, right - left, levels)):
                inside = own[rows, columns]
                y, x_ = inside.nonzero(as_tuple=True)
                if len(y):
                    # PyTorch's max takes the first of equals, and a NaN for the largest.
                    best, first = box[:, rows, columns][:, inside].max(1)
                    pixel = (y + top + rows.start) * width + x_ + left + columns.start
                    out[b, r, i], argmax[b, r, i] = best, pixel[first].int()
                if fill is not None and not inside.all():
                    lower = out[b, r, i] < fill if len(y) else torch.ones_like(out[b, r, i]).bool()
                    out[b, r, i].masked_fill_(lower, fill)
                    argmax[b, r, i].masked_fill_(lower, -1)
    return out.flatten(1, 2), argmax.flatten(1, 2) if places else argmax.new_empty(0)


def _bins(height: int, width: int, levels: list[int]) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each bin of a box, as in `adaptive_max_pool2d`; none of an empty box."""
    for level in levels if height else ():
        edges = [
            [slice(i * size // level, -(-(i + 1) * size // level)) for i in range(level)]
            for size in (height, width)
        ]
        yield from product(*edges)


def region_resize(x: torch.Tensor, index: RegionIndex, size: tuple[int, int]) -> torch.Tensor:
    """x (B,C,H,W) → the box of every region resampled to `size` = (h,w), 0 where its nearest pixel
    is not of the region: (B,R,C,h,w)."""
    out = x.new_zeros((*index.counts.shape, x.shape[1], *size))
    for b, r, box, inside in _resized_boxes(x, index, size):
        out[b, r] = torch.where(inside, _resample(box, size), 0)
    return out


def region_spread(z: torch.Tensor, index: RegionIndex, out: torch.Tensor) -> torch.Tensor:
    """The adjoint of `region_resize`: z (B,R,C,h,w) → (B,C,H,W) in `out`."""
    out.zero_()
    for b, r, box, inside in _resized_boxes(out, index, z.shape[3:]):
        grad = torch.where(inside, z[b, r], 0)[None]
        box += torch.ops.aten.upsample_bilinear2d_backward(
            grad, z.shape[3:], (1, *box.shape), False
        )[0]
    return out


def _resample(box: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return F.interpolate(box[None], size, mode="bilinear", align_corners=False)[0]


def _resized_boxes(x: torch.Tensor, index: RegionIndex, size: Sequence[int]) -> Iterator:
    """(b, r, view of the box (C,h,w), which pixels of the result are of the region) where any."""
    for b, boxes in enumerate(index.boxes.tolist()):
        for r, (top, left, bottom, right) in enumerate(boxes):
            if bottom > top:
                own = (index.labels[b, top:bottom, left:right] == r)[None, None]
                inside = F.interpolate(own.to(torch.uint8), size, mode="nearest")[0, 0] > 0
                yield b, r, x[b, :, top:bottom, left:right], inside
