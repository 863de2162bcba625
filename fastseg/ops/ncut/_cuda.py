"""GPU launcher of csrc/cuda/ncut.cu."""

import numpy as np
import torch

from ...backends.cuda import launch, module, on_stream_of
from ._disc import rate, reach

# As csrc/ncut_device.h has it.
ACROSS, DOWN, WARPS = 32, 4, 4
# Planes of a warp, as many as its registers hold.
MOST_PLANES = {torch.float32: 8, torch.float64: 4}


def ncut_sums(
    p: torch.Tensor, colours: torch.Tensor, radius: int, sigma_color: float, sigma_space: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `_reference.ncut_sums`; both are contiguous, float32 or float64."""
    batch, classes, height, width = p.shape
    filtered, degree = torch.empty_like(p), p.new_empty((batch, height, width))
    tiles = -(-height // DOWN) * -(-width // ACROSS)
    planes = 4
    while planes * WARPS < classes and planes < MOST_PLANES[p.dtype]:
        planes *= 2
    jobs = batch * tiles * -(-classes // (planes * WARPS))
    parts = p.new_empty((batch, 2, classes, tiles))
    sizes = classes, colours.shape[1], height, width, reach(radius, height, width), radius * radius
    number = np.float64 if p.dtype == torch.float64 else np.float32
    rates = (number(rate(sigma, p.dtype)) for sigma in (sigma_color, sigma_space))
    suffix = "double" if p.dtype == torch.float64 else "float"
    with on_stream_of(p):
        kernel = module("ncut", f"-DPLANES={planes}").get_function(f"ncut_{suffix}")
        launch(
            *(kernel, jobs, ACROSS * DOWN),
            *(p, colours, *map(np.int32, sizes), *rates, jobs, filtered, degree, parts),
        )
    inner, outer = parts.sum(3).unbind(1)
    return inner.clone(), outer.clone(), filtered, degree
