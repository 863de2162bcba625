"""How well foreground masks and superpixels agree with the truth."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from ..checks import (
    check_choice,
    check_dtype,
    check_int,
    check_ndim,
    check_same_device,
    check_shape,
)
from ..interop import as_tensor

__all__ = [
    "POLARITIES",
    "BinaryScores",
    "SuperpixelScores",
    "binary_scores",
    "label_boundaries",
    "superpixel_scores",
]

POLARITIES = ("given", "oracle")
INTEGERS = (torch.uint8, torch.int16, torch.int32, torch.int64)


# --- foreground masks --------------------------------------------------------------------------


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


# --- superpixels -------------------------------------------------------------------------------


class SuperpixelScores(NamedTuple):
    """Scores of each label map of a batch, as arrays (B,) of the kind that went in."""

    boundary_recall: Any  #: share of the truth's boundary pixels with a superpixel's close by
    undersegmentation_error: Any  #: how far superpixels leak over the truth's segments, 0 is best
    asa: Any  #: achievable segmentation accuracy: each superpixel given its best segment
    count: Any  #: superpixels, int64


def superpixel_scores(labels: Any, truth: Any, tolerance: int | None = None) -> SuperpixelScores:
    """Score superpixels S against true segments G (Stutz et al., CVIU 2018, §5), N pixels scored.

        undersegmentation error = 1/N Σ_G Σ_(S∩G≠∅) min(|S∩G|, |S−G|)  (Neubert and Protzel)
        ASA = 1/N Σ_S max_G |S∩G|

    A boundary pixel has a 4-neighbour of another label. Boundary recall is the share of the truth's
    that have one of the superpixels' at most `tolerance` rows and columns away; 1 where the truth
    has none. An image without a pixel to score gets NaN in the other two.

    Args:
        labels, truth: (B,H,W), integer; tensors, NumPy or DLPack arrays. Pixels negative in either
            are left out, and make no boundary.
        tolerance: in pixels; None: 0.0025 of the image's diagonal, rounded.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    s, back = as_tensor("labels", labels)
    g, _ = as_tensor("truth", truth)
    check_ndim("labels", s, "BHW")
    check_shape("truth", g, tuple(s.shape))
    check_same_device("truth", g, "labels", s)
    for name, value in (("labels", s), ("truth", g)):
        check_dtype(name, value, INTEGERS)
    if tolerance is None:
        tolerance = round(0.0025 * (s.shape[1] ** 2 + s.shape[2] ** 2) ** 0.5)
    check_int("tolerance", tolerance, 0)

    scored = (s >= 0) & (g >= 0)
    edges, found = (label_boundaries(value, scored) for value in (g, s))
    if found.numel():
        found = F.max_pool2d(found.float(), 2 * tolerance + 1, 1, tolerance) > 0
    hits, all_edges = (value.flatten(1).sum(1).double() for value in (edges & found, edges))
    recall = torch.where(all_edges > 0, hits / all_edges, 1)

    # One label in two images is two superpixels, and a superpixel has a part in each segment.
    image = torch.arange(len(s), device=s.device)[:, None, None].expand_as(s)[scored]
    (of_image, _), superpixel, _ = _pairs(image, s[scored])
    (owner, _), _, areas = _pairs(superpixel, g[scored])
    sizes = areas.new_zeros(len(of_image)).index_add(0, owner, areas)
    best = areas.new_zeros(len(of_image)).scatter_reduce(0, owner, areas, "amax")
    leaks = torch.minimum(areas, sizes[owner] - areas)

    def total(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(len(s)).index_add(0, images, values)

    pixels = total(of_image, sizes)
    scores = (
        recall,
        total(of_image[owner], leaks) / pixels,
        total(of_image, best) / pixels,
        total(of_image, torch.ones_like(of_image)),
    )
    return SuperpixelScores(*map(back, scores))


def _pairs(a: torch.Tensor, b: torch.Tensor) -> tuple[tuple, torch.Tensor, torch.Tensor]:
    """The distinct pairs of (a, b) as two arrays, which of them each element is, how often."""
    values, second = b.unique(return_inverse=True)
    codes = a * len(values) + second
    pairs, which, counts = codes.unique(return_inverse=True, return_counts=True)
    width = max(len(values), 1)
    return (pairs // width, values[pairs % width]), which, counts.double()


def label_boundaries(labels: torch.Tensor, scored: torch.Tensor | None = None) -> torch.Tensor:
    """Pixels (B,H,W) with a 4-neighbour of another label, both of them `scored`: bool."""
    if scored is None:
        scored = torch.ones_like(labels, dtype=torch.bool)
    edges = torch.zeros_like(scored)
    for value, counts, found in ((labels, scored, edges), (labels.mT, scored.mT, edges.mT)):
        differ = (value[:, 1:] != value[:, :-1]) & counts[:, 1:] & counts[:, :-1]
        found[:, 1:] |= differ
        found[:, :-1] |= differ
    return edges
