"""What a user could run instead of counting with `fastseg.SegmentationMetrics`.

pred, target: integers of one shape → (K,C) int64
"""

import torch


def bincount(pred: torch.Tensor, target: torch.Tensor, clusters: int, classes: int) -> torch.Tensor:
    """`torch.bincount` of the pairs; no label may be negative."""
    pairs = pred.flatten().long() * classes + target.flatten().long()
    return torch.bincount(pairs, minlength=clusters * classes).view(clusters, classes)


def masked_bincount(
    pred: torch.Tensor, target: torch.Tensor, clusters: int, classes: int
) -> torch.Tensor:
    """The same of the pixels where neither label is negative."""
    known = (pred >= 0) & (target >= 0)
    return bincount(pred[known], target[known], clusters, classes)
