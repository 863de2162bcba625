"""GPU launchers of csrc/cuda/ncut.cu."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from ...backends.cuda import launch, module, on_stream_of
from ._disc import rate, reach

# As csrc/ncut_device.h has it: rows of a block, rows and columns of a square of neighbours beside
# its middle, warps that take turns at rows of pixels.
DOWN, SIDE, CREWS = 32, 4, 3
# As csrc/cuda/ncut_back.cu has it: threads, pixels and planes of a block.
THREADS, PIXELS, PLANES = 256, 1024, 8
_SUFFIX = {torch.float32: "float", torch.float64: "double"}


def ncut_sums(
    p: torch.Tensor, colours: torch.Tensor, radius: int, sigma_color: float, sigma_space: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `_reference.ncut_sums`; both are contiguous, float32 or float64."""
    batch, classes, height, width = p.shape
    filtered, degree = torch.empty_like(p), p.new_empty((batch, height, width))
    most = reach(radius, height, width)
    # A thread has up to four planes, and four of a warp have the same pixels; one, and eight.
    wide = p.dtype == torch.float64
    across, share, planes, groups = (16, 8, 1, 2) if wide else (32, 4, 4, 4)
    warps = -(-classes // (share * planes))
    passes = -(-warps // groups)
    groups = -(-warps // passes)
    planes = -(-classes // (share * groups * passes))
    strips, parts = -(-width // across), -(-height // DOWN)
    jobs = batch * strips * parts * passes
    # Neighbours outside the image have no affinity, without being asked for.
    margin = (most + 2 * SIDE + 3) // 4 * 4
    beyond = strips * across - width
    colours = F.pad(colours, (margin, margin + beyond, margin, margin), value=math.inf)
    pitch = colours.shape[3]
    sums = p.new_empty((2, batch, strips * parts * CREWS, classes))
    whole = width % 4 == 0 and all(x.data_ptr() % 16 == 0 for x in (p, filtered, degree))
    sizes = classes, height, width, pitch, margin, most, radius * radius, whole
    number, limits = (np.float64 if wide else np.float32), torch.finfo(p.dtype)
    rates = (
        number(min(max(rate(sigma, p.dtype), limits.tiny) / math.log(2), limits.max))
        for sigma in (sigma_color, sigma_space)
    )
    square = radius * radius if most <= SIDE else 2 * SIDE * SIDE + 1
    options = f"-DPLANES={planes}", f"-DGROUPS={groups}", f"-DSQUARE={square}"
    # Denormal numbers would take three more instructions for each exponential.
    options += f"-DCHANNELS={colours.shape[1]}", "--ftz=true"
    with on_stream_of(p):
        kernel = module("ncut", *options).get_function(f"ncut_{_SUFFIX[p.dtype]}")
        launch(
            *(kernel, jobs, 32 * CREWS * groups),
            *(p, colours, *map(np.int32, sizes), *rates, jobs, filtered, degree, sums),
        )
    inner, outer = (part.sum(1) for part in sums)
    return inner, outer, filtered, degree


def ncut_back(
    of_inner: torch.Tensor, of_outer: torch.Tensor, filtered: torch.Tensor, degree: torch.Tensor
) -> torch.Tensor:
    """See `_reference.ncut_back`; all are contiguous, float32 or float64."""
    batch, classes, height, width = filtered.shape
    grad, size = torch.empty_like(filtered), height * width
    jobs = batch * -(-size // PIXELS) * -(-classes // PLANES)
    with on_stream_of(filtered):
        kernel = module("ncut_back").get_function(f"ncut_back_{_SUFFIX[filtered.dtype]}")
        launch(
            *(kernel, jobs, THREADS),
            *(of_inner, of_outer, filtered, degree, np.int32(classes), size, jobs, grad),
        )
    return grad
