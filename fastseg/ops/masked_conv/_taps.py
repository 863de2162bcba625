"""Which taps of a kernel an ordering masks, shared by every backend."""

from functools import cache

import torch

from ...orderings import turn


@cache
def dead(size: int, ordering: int) -> tuple[slice, slice]:
    """Rows and columns of a size×size kernel that `ordering` masks: for the first, what is right of
    the middle in the last row, which is the current one."""
    if ordering == 0 or size == 1:
        return slice(0, 0), slice(0, 0)
    mask = torch.zeros((size, size), dtype=torch.bool)
    mask[-1, size // 2 + 1 :] = True
    rows, columns = turn(mask, ordering).nonzero(as_tuple=True)
    return tuple(slice(int(i.min()), int(i.max()) + 1) for i in (rows, columns))  # type: ignore[return-value]


def masked(weight: torch.Tensor, ordering: int) -> torch.Tensor:
    """A copy of the weights (O,C,F,F), contiguous, zero where `ordering` masks them."""
    weight = weight.clone(memory_format=torch.contiguous_format)
    rows, columns = dead(weight.shape[2], ordering)
    weight[:, :, rows, columns] = 0
    return weight


def layout(x: torch.Tensor) -> torch.memory_format:
    """In which x is computed: channels last if that is its own, contiguous if in doubt."""
    last = x.stride(1) == 1 and x.shape[1] > 1 and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
