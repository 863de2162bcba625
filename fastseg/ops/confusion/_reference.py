"""The definition of confusion counts in plain PyTorch: any device, nothing waits for it."""

import torch


def confusion(
    pred: torch.Tensor, target: torch.Tensor, num_clusters: int, num_classes: int, ignore_index: int
) -> torch.Tensor:
    """Pixels of each pair, of clusters too large, and of classes too large: int64 (K·C + 2,)."""
    pairs = num_clusters * num_classes
    pred, target = pred.flatten().long(), target.flatten().long()
    slot = pred * num_classes + target
    slot = torch.where(target >= num_classes, pairs + 1, slot)
    slot = torch.where(pred >= num_clusters, pairs, slot)
    slot = torch.where((pred < 0) | (target < 0) | (target == ignore_index), pairs + 2, slot)
    counts = torch.zeros(pairs + 3, dtype=torch.int64, device=pred.device)
    one = torch.ones((), dtype=torch.int64, device=pred.device)
    return counts.scatter_add(0, slot, one.expand_as(slot))[:-1].clone()
