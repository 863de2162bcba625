"""ARL's objective as a user would write it; InfoSeg's is the definition, line by line."""

import math

import torch
import torch.nn.functional as F


def info_nce(
    y: torch.Tensor, y2: torch.Tensor, at: torch.Tensor, at2: torch.Tensor
) -> torch.Tensor:
    """ARL's Eq. 7 as a cross-entropy over all pairs of the drawn pixels, those of one image out."""
    anchors = y.flatten(2)[:, :, at].mT.flatten(0, 1)  # (B·S,C)
    keys = y2.flatten(2)[:, :, at2].mT.flatten(0, 1)
    image = torch.arange(len(y), device=y.device).repeat_interleave(len(at))
    pair = torch.arange(len(image), device=y.device)
    own = (image[:, None] == image) & (pair[:, None] != pair)
    scores = (anchors @ keys.T).masked_fill(own, -math.inf)
    return F.cross_entropy(scores, pair) - math.log((len(y) - 1) * len(at) + 1)
