"""How well clusters of pixels agree with classes, counted over many images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from .. import backends
from ..checks import check_choice, check_int
from ..distributed import sum_over
from ..interop import as_tensor
from ..ops.confusion import confusion
from ..ops.confusion.api import check_outside

__all__ = ["MATCHINGS", "SegmentationMetrics", "SegmentationScores"]

MATCHINGS = ("one_to_one", "many_to_one")


@dataclass(frozen=True)
class SegmentationScores:
    """What `SegmentationMetrics.compute` found, 0 … 1 but for `ari`, which chance makes 0.

    Without a pixel counted all numbers are NaN. Clusters without a class are errors throughout:
    their pixels belong to no predicted class.
    """

    accuracy: float  #: share of the pixels whose cluster's class is their own
    miou: float  #: mean of `iou` over the classes that occur
    dice: float  #: mean of `class_dice` over the classes that occur
    nmi: float  #: normalised mutual information, over the mean entropy; needs no mapping
    ari: float  #: adjusted Rand index; needs no mapping
    iou: np.ndarray  #: (C,) float64, of each class; NaN where neither truth nor prediction has it
    class_dice: np.ndarray  #: (C,) float64, 2|P∩T| / (|P|+|T|), likewise
    mapping: np.ndarray  #: (K,) int64, class of each cluster, −1 for none
    confusion: np.ndarray  #: (K,C) int64, pixels


class SegmentationMetrics:
    """Scores of a clustering against classes, as counts of pixels gathered image by image.

    Clusters get classes from the counts, once all are in (`matching`):

        one_to_one   each at most one class and the other way round, so that the most pixels agree;
                     with more clusters than classes, the rest have none (Hungarian method)
        many_to_one  each its most frequent class, of several the first; a cluster without pixels
                     has none

    The counts stay on the device of the labels, and `update` on a GPU waits for nothing. The
    interface is that of torchmetrics: `update`, `compute`, `reset`, `merge_state`.

    Args:
        num_clusters: K, labels of `pred` are below.
        num_classes: C, labels of `target` are below.
        matching: "one_to_one" or "many_to_one".
        ignore_index: class of pixels to leave out; negative labels always are, in `pred` too.
        group: a `torch.distributed` group, over whose ranks `compute` sums the counts.
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    def __init__(
        self,
        num_clusters: int,
        num_classes: int,
        matching: str = "one_to_one",
        ignore_index: int = -1,
        group: Any = None,
        backend: str = "auto",
    ) -> None:
        check_choice("matching", matching, MATCHINGS)
        self.num_clusters, self.num_classes = num_clusters, num_classes
        self.matching, self.ignore_index, self.group = matching, ignore_index, group
        self.backend = backend
        nothing = torch.empty(0, dtype=torch.uint8)
        check_choice("backend", backend, ("auto", *backends.NAMES))
        # Checks the other arguments; where the counts are, the first labels say.
        self._counts = confusion(
            nothing, nothing, num_clusters, num_classes, ignore_index, "reference"
        )
        self._fresh = True

    def _count(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        sizes = self.num_clusters, self.num_classes, self.ignore_index
        return confusion(pred, target, *sizes, self.backend)

    def update(self, pred: Any, target: Any) -> None:
        """Count the pixels of some images.

        Args:
            pred, target: clusters and classes, integers of one shape; tensors, NumPy or DLPack
                arrays.

        Raises:
            TypeError, ValueError: an argument is not as above; on the CPU also: a label is too
                large. On a GPU `compute` raises that.
        """
        counts = self._count(as_tensor("pred", pred)[0], as_tensor("target", target)[0])
        if counts.device != self._counts.device:
            if not self._fresh:
                raise ValueError(
                    f"`pred` must be on the device of what was counted before "
                    f"({self._counts.device}), got {counts.device}"
                )
            self._counts = torch.zeros_like(counts)
        self._counts += counts
        self._fresh = False

    @property
    def counts(self) -> torch.Tensor:
        """Pixels of each cluster and class that this rank counted: (K,C) int64."""
        return self._counts[:-2].view(self.num_clusters, self.num_classes)

    def reset(self) -> None:
        """Forget all counts."""
        self._counts.zero_()
        self._fresh = True

    def merge_state(self, other: "SegmentationMetrics") -> None:
        """Add what another one counted, which had the same K and C.

        Raises:
            TypeError, ValueError: `other` is not such a one.
        """
        if not isinstance(other, SegmentationMetrics):
            raise TypeError(f"`other` must be SegmentationMetrics, got {type(other).__name__}")
        sizes, others = ((m.num_clusters, m.num_classes) for m in (self, other))
        if sizes != others:
            raise ValueError(f"`other` must have K and C of {sizes}, got {others}")
        self._counts += other._counts.to(self._counts.device)
        self._fresh &= other._fresh

    def to(self, device: Any) -> "SegmentationMetrics":
        """Move the counts, to where a rank that counted nothing can take part in the sum."""
        self._counts = self._counts.to(device)
        self._fresh = False
        return self

    def compute(self, mapping: Sequence[int] | np.ndarray | None = None) -> SegmentationScores:
        """Match clusters with classes and score them.

        Args:
            mapping: (K,) integers, class of each cluster or −1 for none, such as `mapping` of the
                scores of other images; if None, `matching` finds it.

        Raises:
            TypeError, ValueError: `mapping` is not as above; a label was too large.
        """
        counts = sum_over(self._counts, self.group).cpu()
        check_outside(counts, self.num_clusters, self.num_classes)
        table = counts[:-2].view(self.num_clusters, self.num_classes).numpy().copy()
        match = _match(table, self.matching) if mapping is None else self._given(mapping)
        return _scores(table, match)

    def _given(self, mapping: Sequence[int] | np.ndarray) -> np.ndarray:
        if len(mapping) != self.num_clusters:
            raise ValueError(
                f"`mapping` must have a class for each of the {self.num_clusters} clusters, "
                f"got {len(mapping)}"
            )
        for label in mapping:
            check_int("mapping", label, -1)
            if label >= self.num_classes:
                raise ValueError(f"`mapping` must be below {self.num_classes}, got {label}")
        return np.array(mapping, np.int64)


def _match(table: np.ndarray, matching: str) -> np.ndarray:
    """Class of each cluster, or −1: (K,C) → (K,)."""
    if matching == "many_to_one":
        return np.where(table.any(1), table.argmax(1), -1)
    match = np.full(len(table), -1)
    clusters, classes = linear_sum_assignment(table, maximize=True)
    match[clusters] = classes
    return match


def _scores(table: np.ndarray, match: np.ndarray) -> SegmentationScores:
    pixels = table.sum()
    matched = np.zeros((table.shape[1],) * 2, np.int64)  # predicted and true class
    np.add.at(matched, match[match >= 0], table[match >= 0])
    hits, found, truth = matched.diagonal(), matched.sum(1), table.sum(0)
    with np.errstate(invalid="ignore"):
        iou, dice = hits / (found + truth - hits), 2 * hits / (found + truth)
        accuracy = np.divide(hits.sum(), pixels)
    occurs = found + truth > 0

    def mean(values: np.ndarray) -> float:
        return float(values[occurs].mean()) if pixels else np.nan

    return SegmentationScores(
        accuracy=float(accuracy),
        miou=mean(iou),
        dice=mean(dice),
        nmi=_nmi(table) if pixels else np.nan,
        ari=_ari(table) if pixels else np.nan,
        iou=iou,
        class_dice=dice,
        mapping=match,
        confusion=table,
    )


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _nmi(table: np.ndarray) -> float:
    """2 I(U;V) / (H(U)+H(V)); two partitions of one part each agree."""
    joint = table / table.sum()
    rows, columns = _entropy(joint.sum(1)), _entropy(joint.sum(0))
    if rows + columns == 0:
        return 1.0
    return max(0.0, 2 * (rows + columns - _entropy(joint.ravel())) / (rows + columns))


def _ari(table: np.ndarray) -> float:
    """(Hubert and Arabie, 1985), in Python's integers: pairs of pixels are too many for int64."""

    def squares(counts: np.ndarray) -> int:
        return sum(count * count for count in counts.tolist())

    together = squares(table.ravel())
    pixels = int(table.sum())
    only_cluster, only_class = (squares(table.sum(axis)) - together for axis in (1, 0))
    both = together - pixels
    neither = pixels * pixels - only_cluster - only_class - together
    if only_cluster == only_class == 0:
        return 1.0
    return (
        2
        * (both * neither - only_cluster * only_class)
        / (
            (both + only_cluster) * (only_cluster + neither)
            + (both + only_class) * (only_class + neither)
        )
    )
