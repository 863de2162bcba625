"""GPU launchers of csrc/cuda/ncut.cu and ncut_back.cu."""

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
SUFFIX = {torch.float32: "float", torch.float64: "double"}


def ncut_sums(
    p: torch.Tensor, colours: torch.Tensor, radius: int, sigma_color: float, sigma_space: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `_reference.ncut_sums`; both are contiguous, float32 or float64."""
    batch, classes, height, width = p.shape
    filtered, degree = torch.empty_like(p), p.new_empty((batch, height, width))
    across, planes, groups, passes = _shares(classes, p.dtype)
    strips, parts = -(-width // across), -(-height // DOWN)
    jobs = batch * strips * parts * passes
    sums = p.new_empty((2, batch, strips * parts * CREWS, classes))
    # Nothing is like an infinite colour, so what is outside the image has no affinity.
    most = reach(radius, height, width)
    margin = (most + 2 * SIDE + 3) // 4 * 4
    margins = margin, margin + strips * across - width, margin, margin
    colours = F.pad(colours, margins, value=math.inf)
    square = min(radius * radius, 2**31 - 1)
    whole = width % 4 == 0 and p.data_ptr() % 16 == 0
    sizes = classes, height, width, colours.shape[3], margin, most, square, whole
    constants = {"PLANES": planes, "GROUPS": groups, "CHANNELS": colours.shape[1]}
    constants["SQUARE"] = min(square, 2 * SIDE * SIDE + 1)
    # Denormal numbers would take three more instructions an exponential.
    options = *(f"-D{name}={value}" for name, value in constants.items()), "--ftz=true"
    with on_stream_of(p):
        kernel = module("ncut", *options).get_function(f"ncut_{SUFFIX[p.dtype]}")
        launch(
            *(kernel, jobs, 32 * CREWS * groups),
            *(p, colours, *map(np.int32, sizes)),
            *(_rate(sigma, p.dtype) for sigma in (sigma_color, sigma_space)),
            *(jobs, filtered, degree, sums),
        )
    inner, outer = (part.sum(1) for part in sums)
    return inner, outer, filtered, degree


def _shares(classes: int, dtype: torch.dtype) -> tuple[int, int, int, int]:
    """Pixels across a block, planes of a thread, groups of warps with planes of their own, and how
    many blocks have the same pixels: as few as serve all classes."""
    across, share, planes, groups = (16, 8, 1, 2) if dtype == torch.float64 else (32, 4, 4, 4)
    warps = -(-classes // (share * planes))
    passes = -(-warps // groups)
    groups = -(-warps // passes)
    return across, -(-classes // (share * groups * passes)), groups, passes


def _rate(sigma: float, dtype: torch.dtype) -> np.floating:
    """`rate` for powers of 2, never 0 as infinity times it is not a number."""
    limits = torch.finfo(dtype)
    power = max(rate(sigma, dtype), limits.tiny) / math.log(2)
    return (np.float64 if dtype == torch.float64 else np.float32)(min(power, limits.max))


def ncut_back(
    of_inner: torch.Tensor, of_outer: torch.Tensor, filtered: torch.Tensor, degree: torch.Tensor
) -> torch.Tensor:
    """See `_reference.ncut_back`; all are contiguous, float32 or float64."""
    batch, classes, height, width = filtered.shape
    grad, size = torch.empty_like(filtered), height * width
    jobs = batch * -(-size // PIXELS) * -(-classes // PLANES)
    with on_stream_of(filtered):
        kernel = module("ncut_back").get_function(f"ncut_back_{SUFFIX[filtered.dtype]}")
        launch(
            *(kernel, jobs, THREADS),
            *(of_inner, of_outer, filtered, degree, np.int32(classes), size, jobs, grad),
        )
    return grad
