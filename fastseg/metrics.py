"""How well a foreground mask agrees with the truth."""

from typing import Any, NamedTuple

import torch

from .checks import check_choice, check_dtype, check_same_device, check_shape
from .interop import as_tensor

__all__ = ["POLARITIES", "BinaryScores", "binary_scores"]

POLARITIES = ("given", "oracle")


class BinaryScores(NamedTuple):
    """Scores of each mask of a batch, 0 … 1, as arrays (B,) float64 of the kind that went in."""

    accuracy: Any  #: share of the pixels that agree
    iou: Any  #: intersection over union of the foregrounds
    miou: Any  #: mean of that and the same of the backgrounds
    dice: Any  #: 2|P∩T| / (|P|+|T|) of the foregrounds


def binary_scores(
    pred: Any, truth: Any, ignore: Any = None, polarity: str = "given"
) -> BinaryScores:
    """Score foreground masks (Savarese et al., CVPR 2021, §4.3), each image by itself.

    Two empty sets agree: where neither mask has foreground, its IoU and DICE are 1; where one has,
    0. The same for the background in mIoU. An image without a pixel to score gets NaN throughout.

    Args:
        pred, truth: (B,…), bool, True = foreground; tensors, NumPy or DLPack arrays.
        ignore: pixels to leave out, same shape, bool.
        polarity: "given", or "oracle": the better of the mask and its complement, chosen with the
            truth in hand. As in the authors' program each score has its own choice, and mIoU is
            the mean of the best foreground and the best background IoU.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    check_choice("polarity", polarity, POLARITIES)
    p, back = as_tensor("pred", pred)
    t, _ = as_tensor("truth", truth)
    void = torch.zeros_like(p) if ignore is None else as_tensor("ignore", ignore)[0]
    if p.ndim < 2:
        raise ValueError(f"`pred` must have shape (B, …), got {tuple(p.shape)}")
    for name, value in (("pred", p), ("truth", t), ("ignore", void)):
        check_dtype(name, value, (torch.bool,))
        check_shape(name, value, tuple(p.shape))
        check_same_device(name, value, "pred", p)

    counts = [(a & b & ~void).flatten(1).sum(1).double() for a in (p, ~p) for b in (t, ~t)]
    tp, fp, fn, tn = counts
    scores = _scores(tp, fp, fn, tn)
    if polarity == "oracle":
        scores = torch.maximum(scores, _scores(fn, tn, tp, fp))
    accuracy, iou, background_iou, dice = scores
    return BinaryScores(*map(back, (accuracy, iou, (iou + background_iou) / 2, dice)))


def _scores(tp, fp, fn, tn) -> torch.Tensor:
    """Accuracy, foreground IoU, background IoU and DICE from confusion counts (B,): (4,B)."""
    pixels = tp + fp + fn + tn
    part = torch.stack([tp + tn, tp, tn, 2 * tp])
    whole = torch.stack([pixels, tp + fp + fn, tn + fp + fn, 2 * tp + fp + fn])
    # 0/0 is two empty sets, which agree, unless the image has no pixel at all.
    return torch.where(whole > 0, part / whole, pixels / pixels)
