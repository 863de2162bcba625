"""CPU launchers of csrc/filter.h and csrc/iem.h."""

import torch

from ... import _native
from ._gaussian import filter_table, least_share
from ._status import SMOOTHING


def gaussian_filter(x: torch.Tensor, sigma: float, taps: int, passes: int) -> torch.Tensor:
    """See `_reference.gaussian_filter`; x is contiguous, float32 or float64."""
    out = torch.empty_like(x)
    height, width = x.shape[2:]
    _native.gaussian_filter(
        x.detach().reshape(-1, height, width).numpy(),
        out.view(-1, height, width).numpy(),
        filter_table(height, sigma, taps, passes),
        filter_table(width, sigma, taps, passes),
        radius=taps // 2 * passes,
        threads=torch.get_num_threads(),
    )
    return out


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
    """See `_reference.iem`; images are of any layout, uint8 or float, computed in float32."""
    if images.dtype == torch.float64:
        images = images.float()
    batch, _, height, width = images.shape
    masks = torch.empty((batch, 1, height, width), dtype=torch.bool)
    error = torch.empty(batch, dtype=torch.float32)
    steps = torch.empty(batch, dtype=torch.int32)
    status = torch.empty(batch, dtype=torch.int32)
    _native.iem(
        images.detach().numpy(),
        init.numpy(),
        masks.numpy(),
        error.numpy(),
        steps.numpy(),
        status.numpy(),
        filter_table(height, sigma, taps, passes),
        filter_table(width, sigma, taps, passes),
        radius=taps // 2 * passes,
        least=least_share(height, width, sigma, taps, passes),
        scale=2 / (hi - lo),
        iterations=iterations,
        lamb=lamb,
        smoothing=SMOOTHING[smoothing],
        boundary_only=boundary_only,
        threads=torch.get_num_threads(),
    )
    return masks, error, steps, status
