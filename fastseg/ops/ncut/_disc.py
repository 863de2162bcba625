"""The neighbourhood of a pixel and its rates of decay, shared by every backend."""

import torch


def reach(radius: int, height: int, width: int) -> int:
    """How far neighbours closer than `radius` lie at most along an axis of the image."""
    return min(radius, max(height, width)) - 1


def disc(radius: int, height: int, width: int) -> list[tuple[int, int]]:
    """The displacements (dy, dx) shorter than `radius`, zero among them."""
    most = reach(radius, height, width)
    span = range(-most, most + 1)
    return [(dy, dx) for dy in span for dx in span if dy * dy + dx * dx < radius * radius]


def rate(sigma: float, dtype: torch.dtype) -> float:
    """1/σ², or the largest number of the dtype, so that a difference of 0 stays one."""
    inverse = 1 / sigma
    return min(inverse * inverse, torch.finfo(dtype).max)
