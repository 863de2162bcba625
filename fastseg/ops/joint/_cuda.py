"""GPU launcher of csrc/cuda/spectra.cu and csrc/cuda/box.cu."""

import math
from collections.abc import Sequence
from functools import cache

import cupy
import numpy as np
import torch

from ...backends.cuda import launch, module, on_stream_of
from . import _fft, _reference, _sums

# The most that the kernels of spectra are compiled for.
THREADS = {torch.float32: 1024, torch.float64: 512}


@cache
def _most_shared(device: int | None) -> int:
    """Bytes that a block can have."""
    return int(cupy.cuda.Device(device).attributes["MaxSharedMemoryPerBlockOptin"])


# --- spectra -----------------------------------------------------------------------------------


def plane_spectra(x: torch.Tensor, size: tuple[int, int], shift: int = 0) -> torch.Tensor:
    """See `_fft.plane_spectra`, but for the order of frequencies; x has four dimensions."""
    shared = _shared_bytes(size, x)
    if shared is None:
        return _fft.plane_spectra(x, size, shift)
    n, m = size
    hat = x.new_empty((*x.shape[:2], n, m // 2 + 1), dtype=x.dtype.to_complex())
    _launch("plane_spectra", x.contiguous(), size, shift, x.shape, shared, hat)
    return hat


def plane_pixels(
    hat: torch.Tensor, size: tuple[int, int], out: torch.Tensor, shift: int = 0
) -> None:
    """See `_fft.plane_pixels`; hat is as `plane_spectra` makes it, of four dimensions, and each
    plane of `out` is contiguous."""
    shared = _shared_bytes(size, out)
    if shared is None:
        return _fft.plane_pixels(hat, size, out, shift)
    strides = out.shape[1], *out.stride()[:2]
    _launch("plane_pixels", hat.contiguous(), size, shift, out.shape, shared, *strides, out)


def _launch(
    name: str,
    planes: torch.Tensor,
    size: tuple[int, int],
    shift: int,
    shape: Sequence[int],
    shared: int,
    *rest: torch.Tensor | int,
) -> None:
    """A plane a block, so many threads that one or two fill a multiprocessor."""
    single = planes.dtype in (torch.float32, torch.complex64)
    dtype = torch.float32 if single else torch.float64
    threads = THREADS[dtype] // (1 if shared > _most_shared(planes.device.index) // 2 else 2)
    where = tuple(map(np.int32, (*shape[2:], shift)))
    with on_stream_of(planes):
        kernel = module("spectra", f"-DROWS={size[0]}", f"-DCOLUMNS={size[1]}").get_function(
            f"{name}_{'float' if single else 'double'}"
        )
        kernel.max_dynamic_shared_size_bytes = shared
        roots = _roots(size, dtype, planes.device)
        count = shape[0] * shape[1]
        launch(kernel, count, threads, planes, *where, roots, count, *rest, shared=shared)


def _shared_bytes(size: tuple[int, int], x: torch.Tensor) -> int | None:
    """What a spectrum and the roots take, if a block can have as much."""
    n, m = size
    shared = 2 * x.element_size() * (n * (m // 2 + 1) + n + m)
    return shared if shared <= _most_shared(x.device.index) else None


# Without a limit, since a captured CUDA graph keeps the address: an evicted table would be freed.
@cache
def _roots(size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """exp(−2πi·t/n) of both lengths (n+m,2)."""
    turns = torch.cat([torch.arange(n, dtype=torch.float64) * (2 * math.pi / n) for n in size])
    return torch.stack((turns.cos(), -turns.sin()), 1).to(device, dtype)


# --- sums over squares -------------------------------------------------------------------------

# As csrc/box_device.h has it.
TALL, ACROSS, BOX_THREADS, GROUPS, PARTS = 32, 56, 384, 6, 2
# Planes of a thread, as many as its registers hold.
MOST_PLANES = {torch.float32: 4, torch.float64: 1}


def joint_sum(p: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """See `_sums.joint_sum`; p and q are contiguous, float32 or float64."""
    classes = p.shape[1]
    parts = p.new_empty((_tiles(q) * PARTS, classes, q.shape[1]))
    if not _launch_box("box_join", p, q, classes, radius, parts):
        return _sums.joint_sum(_reference, p, q, radius)
    return parts.sum(0)


def mixed_sum(weights: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """See `_sums.mixed_sum`; both are contiguous, float32 or float64."""
    classes = len(weights)
    out = q.new_empty((q.shape[0], classes, *q.shape[2:]))
    if not _launch_box("box_mix", weights, q, classes, radius, out):
        return _sums.mixed_sum(_reference, weights, q, radius)
    return out


def _tiles(q: torch.Tensor) -> int:
    batch, _, height, width = q.shape
    return batch * -(-height // TALL) * -(-width // ACROSS)


def _launch_box(
    name: str, left: torch.Tensor, q: torch.Tensor, classes: int, radius: int, out: torch.Tensor
) -> bool:
    """A tile a block, and as few passes over the classes as registers allow; nothing, and False, if
    the sums around a tile are more than a block can have."""
    others, height, width = q.shape[1:]
    passes = -(-classes // (GROUPS * MOST_PLANES[q.dtype]))
    planes = -(-classes // (GROUPS * passes))
    sums = 2 * TALL * (ACROSS + 4 + (ACROSS + 2 * radius | 1))
    shared = q.element_size() * (sums + others * planes * GROUPS)
    if shared > _most_shared(q.device.index):
        return False
    options = f"-DPLANES={planes}", f"-DRADIUS={radius}", f"-DWIDTH={width}"
    with on_stream_of(q):
        suffix = "float" if q.dtype == torch.float32 else "double"
        kernel = module("box", *options).get_function(f"{name}_{suffix}")
        kernel.max_dynamic_shared_size_bytes = shared
        sizes = map(np.int32, (classes, others, height))
        jobs = _tiles(q) * passes
        launch(kernel, jobs, BOX_THREADS, left, q, *sizes, jobs, out, shared=shared)
    return True
