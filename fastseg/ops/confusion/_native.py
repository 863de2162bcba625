"""CPU launcher of csrc/confusion.h."""

import torch

from ... import _native


def confusion(
    pred: torch.Tensor, target: torch.Tensor, num_clusters: int, num_classes: int, ignore_index: int
) -> torch.Tensor:
    """See `_reference.confusion`."""
    counts = torch.empty(num_clusters * num_classes + 3, dtype=torch.int64)
    _native.confusion(
        pred.reshape(-1).contiguous().numpy(),
        target.reshape(-1).contiguous().numpy(),
        counts.numpy(),
        ignored=ignore_index,
        clusters=num_clusters,
        threads=torch.get_num_threads(),
    )
    return counts[:-1].clone()
