"""What the objectives draw. The sizes depend on arguments alone, so nothing waits for a GPU."""

import torch

from ...interop import upload

__all__ = ["derangement", "displaced_positions"]


def _place(generator: torch.Generator | None, device: torch.device) -> torch.device:
    return device if generator is None else generator.device


def derangement(n: int, generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """A permutation of n ≥ 2 without a fixed point, one random cycle through all: int64 (n,)."""
    cycle = torch.randperm(n, generator=generator, device=_place(generator, device))
    return upload(torch.empty_like(cycle).scatter_(0, cycle, cycle.roll(-1)), device)


def displaced_positions(
    count: int,
    height: int,
    width: int,
    radius: int,
    generator: torch.Generator | None,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct pixels l, and each displaced by one u of −T … T along both axes: int64 (count,).

    T = `radius`. u is uniform; the l come from a window of (height−T)×(width−T) pixels, which lies
    anywhere where both it and its displacement are in the image.
    """
    place = _place(generator, device)
    u = torch.randint(-radius, radius + 1, (2,), generator=generator, device=place)
    fraction = torch.rand(2, generator=generator, device=place, dtype=torch.float64)
    corner = (fraction * (radius + 1 - u.abs())).long() - u.clamp(max=0)
    tall, wide = height - radius, width - radius
    within = torch.randperm(tall * wide, generator=generator, device=place)[:count]
    at = (corner[0] + within // wide) * width + corner[1] + within % wide
    return upload(at, device), upload(at + u[0] * width + u[1], device)
