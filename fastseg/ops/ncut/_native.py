"""CPU launcher of csrc/ncut.h."""

import torch

from ... import _native
from ._disc import rate
from ._reference import ncut_back as ncut_back


def ncut_sums(
    p: torch.Tensor, colours: torch.Tensor, radius: int, sigma_color: float, sigma_space: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `_reference.ncut_sums`; both are contiguous, float32 or float64."""
    batch, classes, height, width = p.shape
    filtered, degree = torch.empty_like(p), p.new_empty((batch, height, width))
    totals = p.new_empty((batch, 2, classes), dtype=torch.float64)
    _native.ncut_sums(
        p.detach().numpy(),
        colours.numpy(),
        filtered.numpy(),
        degree.numpy(),
        totals.numpy(),
        radius=radius,
        color_rate=rate(sigma_color, p.dtype),
        space_rate=rate(sigma_space, p.dtype),
        threads=torch.get_num_threads(),
    )
    inner, outer = (part.to(p.dtype, copy=True) for part in totals.unbind(1))
    return inner, outer, filtered, degree
