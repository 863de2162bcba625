"""GPU launchers of csrc/cuda/region.cu."""

from functools import cache
from typing import Any

import numpy as np
import torch

from ...backends.cuda import launch, module, on_stream_of
from ._index import RegionIndex, wide, widened

WARP, THREADS = 32, 256  # of a block
DOWN, ACROSS = 8, 16  # pixels that a block of `region_spread` has, as csrc/region_device_resize.h
ROOM = 48 * 1024  # bytes of shared memory that every GPU gives a block
# An H200: its multiprocessors, their shared memory, what each block takes of it beyond its own, and
# as many blocks as have registers. Another card has more turns, and the same results.
MULTIPROCESSORS, SHARED, RESERVED, MOST_BLOCKS = 132, 228 * 1024, 1024, 16
# Pixels of a part of an image: few are not worth a join; those of more have no 16-bit number, which
# is what maxima are kept by. And as many as are read while a part's result of a region is written
# and read once more.
LEAST_PART, MOST_PART, PIXELS_A_REGION = 1024, 2**16 - 1, 4
SUFFIXES = {torch.float64: "double", torch.float32: "float"}
SUFFIXES |= {torch.float16: "half", torch.bfloat16: "bfloat16"}


def region_index(labels: torch.Tensor, num_regions: int) -> tuple[torch.Tensor, ...]:
    """See `_reference.region_index`."""
    batch, height, width = labels.shape
    # Which labels are too large is not looked for; they are left out.
    labels = labels.clamp(-1, num_regions).to(torch.int32).contiguous()
    counts = torch.zeros((batch, num_regions), dtype=torch.int32, device=labels.device)
    boxes = torch.zeros((batch, num_regions, 4), dtype=torch.int32, device=labels.device)
    runs = torch.empty((batch, height * width, 3), dtype=torch.int32, device=labels.device)
    of_row = torch.empty((batch, height), dtype=torch.int32, device=labels.device)
    shape = labels, *map(np.int32, (batch, height, width, num_regions))
    rows = batch * height
    with on_stream_of(labels):
        kernel = module("region").get_function
        launch(kernel("region_measure"), rows, WARP, *shape, of_row, counts, boxes)
        ends = of_row.cumsum(1, dtype=torch.int32)
        launch(kernel("region_runs"), rows, WARP, *shape, ends - of_row, runs, boxes)
    return labels, runs, ends[:, -1].contiguous(), counts, boxes


def _pixels(x: torch.Tensor) -> tuple[torch.Tensor, np.int32]:
    """x (B,C,H,W) and 1 if it is channels-last, else contiguous and 0."""
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return x, np.int32(1)
    return x.contiguous(), np.int32(0)


def _tiles(channels: int) -> int:
    return -(-channels // WARP)


def _kernel(name: str, dtype: torch.dtype) -> Any:
    return module("region").get_function(f"region_{name}_{SUFFIXES[dtype]}")


def region_sum(x: torch.Tensor, index: RegionIndex) -> torch.Tensor:
    """See `_reference.region_sum`; x is of any float dtype."""
    (sums,) = _pool("sum", x, index, (wide(x.dtype),))
    return sums


def region_max(x: torch.Tensor, index: RegionIndex) -> tuple[torch.Tensor, torch.Tensor]:
    """See `_reference.region_max`; x is of any float dtype, the maxima as `region_sum`'s sums."""
    maxima, argmax = _pool("max", x, index, (wide(x.dtype), torch.int32))
    return maxima, argmax


def _pool(
    kind: str, x: torch.Tensor, index: RegionIndex, dtypes: tuple[torch.dtype, ...]
) -> list[torch.Tensor]:
    """One walk over the image if the results of all regions fit into a block's shared memory beside
    its pixels; else over each region's box."""
    (batch, channels, height, width), regions = x.shape, index.num_regions
    out = [x.new_empty((*index.counts.shape, channels), dtype=dtype) for dtype in dtypes]
    # One result is of the pixels in no region. A maximum has its place beside it.
    shared = WARP * (regions + 1) * (out[0].element_size() + 2 * (kind == "max"))
    tile = WARP * (WARP + 1) * x.element_size()
    if shared + tile > ROOM:
        bins = () if kind == "sum" else (np.int32(1), np.int32(0), _number(0.0, x))
        _pool_boxes(kind, x, index, _levels((1,), x.device), bins, out)
        return out
    pixels, rows = _pixels(x)
    blocks = batch * _tiles(channels)
    parts = _parts(blocks, height * width, regions, shared + tile)
    part = out
    if parts > 1:
        part = [of.new_empty((batch, parts, regions, channels)) for of in out]
    sizes = map(np.int32, (batch, channels, height * width, regions, parts))
    with on_stream_of(x):
        where = blocks * parts, WARP
        launch(
            _kernel(kind, x.dtype), *where, pixels, rows, index.labels, *sizes, *part, shared=shared
        )
        if parts > 1:
            each = regions * channels
            where = -(-batch * each // THREADS), THREADS
            join = _kernel(f"join_{kind}", out[0].dtype)
            launch(join, *where, *part, np.int32(batch), np.int32(parts), each, *out)
    return out


def _parts(blocks: int, size: int, regions: int, shared: int) -> int:
    """Of an image of `size` pixels, where its parts are `blocks` times as many blocks: so many that
    the card is done soonest, which has a number of blocks at a time."""
    least = -(-size // MOST_PART)
    most = max(least, size // max(LEAST_PART, PIXELS_A_REGION * regions))
    at_once = MULTIPROCESSORS * min(MOST_BLOCKS, SHARED // (shared + RESERVED))

    def pixels(parts: int) -> float:
        turns = -(-blocks * parts // at_once)
        return turns * (size / parts + PIXELS_A_REGION * regions)

    # Those that fill one turn, two, …
    return min((max(least, min(most, n * at_once // blocks)) for n in range(1, 5)), key=pixels)


def _pool_boxes(
    kind: str,
    x: torch.Tensor,
    index: RegionIndex,
    levels: torch.Tensor,
    options: tuple[np.generic, ...],
    out: list[torch.Tensor],
) -> None:
    batch, channels, height, width = x.shape
    pixels, rows = _pixels(x)
    sizes = map(np.int32, (batch, channels, height * width, width, index.num_regions))
    blocks = out[0].shape[0] * out[0].shape[1] * _tiles(channels)
    with on_stream_of(x):
        launch(
            *(_kernel(f"{kind}_boxes", x.dtype), blocks, WARP),
            *(pixels, rows, index.labels, index.boxes, *sizes, levels, *options, *out),
        )


def region_unpool(z: torch.Tensor, index: RegionIndex, out: torch.Tensor) -> torch.Tensor:
    """See `_reference.region_unpool`; z is of any float dtype."""
    pixels, rows = _pixels(out)
    batch, channels, height, width = out.shape
    sizes = map(np.int32, (batch, channels, height * width, index.num_regions))
    blocks = batch * _tiles(channels) * -(-height * width // THREADS)
    with on_stream_of(z):
        launch(
            *(_kernel("unpool", z.dtype), blocks, THREADS),
            *(z.contiguous(), rows, index.labels, *sizes, pixels),
        )
    return out


def region_scatter(
    z: torch.Tensor, at: torch.Tensor, labels: torch.Tensor | None, out: torch.Tensor
) -> torch.Tensor:
    """See `_reference.region_scatter`; z is of any float dtype."""
    if labels is None and z.dtype != wide(z.dtype):
        sums = torch.empty_like(out, dtype=wide(z.dtype))
        return out.copy_(region_scatter(widened(z), at, None, sums))
    pixels, rows = _pixels(out)
    batch, channels, height, width = out.shape
    sizes = batch, channels, height * width, z.shape[1]
    given = z.contiguous(), at.contiguous(), rows
    tiles = batch * _tiles(channels)
    with on_stream_of(z):
        if labels is not None:
            where = tiles * -(-height * width // THREADS), THREADS
            launch(_kernel("place", z.dtype), *where, *given, labels, *map(np.int32, sizes), pixels)
            return out
        room = WARP * (WARP + 1) * z.element_size()
        part = WARP * min(ROOM // room, -(-height * width // WARP))
        where = tiles * -(-height * width // part), WARP
        launch(
            *(_kernel("scatter", z.dtype), *where, *given, *map(np.int32, (*sizes, part)), pixels),
            shared=part // WARP * room,
        )
    return out


def region_spp(
    x: torch.Tensor, index: RegionIndex, levels: list[int], fill: float | None, places: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `_reference.region_spp`; x is of any float dtype, the maxima as `region_max`'s.

    The first call with some levels waits for the device.
    """
    bins = sum(level * level for level in levels)
    shape = len(x), index.num_regions * bins, x.shape[1]
    out = x.new_empty(shape, dtype=wide(x.dtype))
    argmax = torch.empty(out.shape if places else 0, dtype=torch.int32, device=x.device)
    options = np.int32(bins), np.int32(fill is not None), _number(fill or 0.0, x)
    _pool_boxes("max", x, index, _levels(tuple(levels), x.device), options, [out, argmax])
    return out, argmax


def region_resize(x: torch.Tensor, index: RegionIndex, size: tuple[int, int]) -> torch.Tensor:
    """See `_reference.region_resize`; x is float32 or float64."""
    pixels, rows = _pixels(x)
    batch, channels, height, width = x.shape
    out = x.new_empty((*index.counts.shape, channels, *size))
    sizes = map(np.int32, (batch, channels, height * width, width, index.num_regions, *size))
    threads = index.counts.numel() * _tiles(channels) * size[0] * size[1]
    with on_stream_of(x):
        launch(
            *(_kernel("resize", x.dtype), -(-threads // THREADS), THREADS),
            *(pixels, rows, index.labels, index.boxes, *sizes, out),
        )
    return out


def region_spread(z: torch.Tensor, index: RegionIndex, out: torch.Tensor) -> torch.Tensor:
    """See `_reference.region_spread`; z is float32 or float64."""
    pixels, rows = _pixels(out)
    batch, channels, height, width = out.shape
    sizes = batch, channels, height, width, index.num_regions, *z.shape[3:]
    blocks = batch * _tiles(channels) * -(-height // DOWN) * -(-width // ACROSS)
    with on_stream_of(z):
        launch(
            *(_kernel("spread", z.dtype), blocks, WARP),
            *(z.contiguous(), rows, index.labels, index.boxes, *map(np.int32, sizes), pixels),
        )
    return out


def _number(value: float, x: torch.Tensor) -> np.generic:
    return np.float64(value) if x.dtype == torch.float64 else np.float32(value)


@cache
def _levels(levels: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Kept on the device without a limit, as a captured CUDA graph needs them."""
    return torch.tensor(levels, dtype=torch.int32, device=device)
