"""Arrays in, the same kind of arrays out: PyTorch, NumPy, and whatever speaks DLPack; and small
things on their way to a GPU."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

__all__ = ["as_tensor", "constant", "upload"]


def as_tensor(name: str, value: Any) -> tuple[torch.Tensor, Callable[[torch.Tensor], Any]]:
    """`value` as a tensor, sharing memory where it can, and the way back to its own kind.

    Raises:
        TypeError: `value` is neither a tensor, a NumPy array nor a DLPack array.
    """
    if isinstance(value, torch.Tensor):
        return value, lambda tensor: tensor
    if isinstance(value, np.ndarray):
        # PyTorch takes neither read-only nor negatively strided nor foreign-endian arrays.
        native = value.dtype.newbyteorder("=")
        if not value.flags.writeable or min(value.strides, default=0) < 0 or value.dtype != native:
            value = value.astype(native)
        try:
            return torch.from_numpy(value), lambda tensor: tensor.cpu().numpy()
        except TypeError as error:
            raise TypeError(f"`{name}` has a dtype that PyTorch lacks: {value.dtype}") from error
    if hasattr(value, "__dlpack__"):
        from_dlpack = (
            getattr(value.__array_namespace__(), "from_dlpack", None)
            if hasattr(value, "__array_namespace__")
            else None
        )
        return torch.from_dlpack(value), from_dlpack or (lambda tensor: tensor)
    raise TypeError(
        f"`{name}` must be a torch.Tensor, a NumPy array or a DLPack array, "
        f"got {type(value).__name__}"
    )


def upload(x: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """`x` on the device, without a wait for what runs there, which copies of ordinary memory ask
    for."""
    if x.device.type == "cpu" and torch.device(device).type == "cuda":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


# Without a limit, since a captured CUDA graph keeps the address.
@cache
def constant(values: tuple, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Numbers on the device, uploaded once; nobody writes to them."""
    return torch.tensor(values, dtype=dtype, device=device)
