"""Operators under autocast."""

from typing import Any

import torch

__all__ = ["cast"]

CAST = (torch.float32, torch.float16, torch.bfloat16)


def cast(device: torch.device, *values: Any) -> tuple[Any, ...]:
    """Tensors in the dtype of autocast where that is on, float64 excepted, as those of PyTorch's
    products are; all else as it is."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return values
    dtype = torch.get_autocast_dtype(kind)
    return tuple(
        value.to(dtype) if isinstance(value, torch.Tensor) and value.dtype in CAST else value
        for value in values
    )
