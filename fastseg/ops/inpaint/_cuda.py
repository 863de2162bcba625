"""GPU launcher of csrc/cuda/iem.cu, which CuPy compiles at first use."""

from functools import cache
from typing import Any

import cupy
import numpy as np
import torch

from ...backends.cuda import launch, module, on_stream_of
from ._gaussian import filter_table, least_share
from ._status import SMOOTHING

# Of the block that works on one image; any number of channels takes more registers a thread.
RGB_THREADS, THREADS = 512, 256


def iem(
    images: torch.Tensor,
    init: torch.Tensor,
    lo: float,
    hi: float,
    iterations: int,
    lamb: float,
    smoothing: str,
    boundary_only: bool,
    sigma: float,
    taps: int,
    passes: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `_reference.iem`; images are of any layout, uint8 or float, computed in float32.

    The first call with a size, a filter and a kind of image waits for the device. Later ones do
    not, and can be captured in a CUDA graph.
    """
    if images.dtype == torch.float64:
        images = images.float()
    batch, channels, height, width = images.shape
    runs, device = (batch, init.shape[1]), images.device
    radius = taps // 2 * passes
    masks = torch.empty((*runs, height, width), dtype=torch.bool, device=device)
    error = torch.empty(runs, dtype=torch.float64, device=device)
    steps, status = torch.empty((2, *runs), dtype=torch.int32, device=device)
    with on_stream_of(images):
        kernels, threads = _kernels(images.dtype, 3 if channels == 3 else 0)
        size = _block_bytes(kernels, channels, height, width, radius, threads, device)
        blocks = min(error.numel(), _most_blocks(kernels, threads, size, device))
        memory = torch.empty(blocks * size, dtype=torch.uint8, device=device)
        launch(
            *(kernels.get_function("iem"), blocks, threads),
            *(images, *images.stride(), np.float32(2 / (hi - lo)), init, *init.stride()),
            *map(np.int32, (*runs, channels, height, width)),
            *_table(min(height, 2 * radius + 1), sigma, taps, passes, device),
            *_table(min(width, 2 * radius + 1), sigma, taps, passes, device),
            *map(np.int32, (radius, least_share(height, width, sigma, taps, passes), iterations)),
            *(np.float64(lamb), np.int32(SMOOTHING[smoothing]), np.int32(boundary_only)),
            *(memory, size, masks, error, steps, status),
        )
    best = error.argmax(1)  # the first of equals
    rows = torch.arange(batch, device=device)
    masks, error, steps, status = (of[rows, best] for of in (masks, error, steps, status))
    return masks[:, None], error.float(), steps, status


# Nothing below has a limit to what it keeps: a captured CUDA graph needs its kernel and tables.


@cache
def _kernels(dtype: torch.dtype, channels: int) -> tuple[Any, int]:
    """The kernels for images of `dtype` and so many channels, 0 for any, and a block's threads."""
    threads = RGB_THREADS if channels == 3 else THREADS
    pixel = {torch.uint8: "uint8", torch.float32: "float"}[dtype]
    options = f"-DPIXEL={pixel}", f"-DCHANNELS={channels}", f"-DBLOCK={threads}"
    return module("iem", *options), threads


@cache
def _block_bytes(
    kernels: Any,
    channels: int,
    height: int,
    width: int,
    radius: int,
    threads: int,
    device: torch.device,
) -> int:
    """Memory that a block needs."""
    size = torch.empty(1, dtype=torch.int64, device=device)
    shape = map(np.int32, (channels, height, width, radius, threads))
    launch(kernels.get_function("iem_workspace"), 1, 1, *shape, size)
    return int(size)


@cache
def _most_blocks(kernels: Any, threads: int, size: int, device: torch.device) -> int:
    """How many blocks fill the card, or a quarter of its memory if those are fewer."""
    card, kernel = cupy.cuda.Device(device.index), kernels.get_function("iem").kernel
    each = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.ptr, threads, 0)
    full = card.attributes["MultiProcessorCount"] * each
    return max(1, min(full, card.mem_info[1] // 4 // size))


@cache
def _table(
    size: int, sigma: float, taps: int, passes: int, device: torch.device
) -> tuple[torch.Tensor, np.int32]:
    """`filter_table` on the device, and its stride."""
    table = torch.tensor(filter_table(size, sigma, taps, passes), dtype=torch.float32)
    return table.to(device), np.int32(table.shape[1])
