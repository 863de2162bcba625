"""How well masks, superpixels and clusters agree with the truth."""

from .clusters import MATCHINGS, SegmentationMetrics, SegmentationScores
from .masks import (
    POLARITIES,
    BinaryScores,
    SuperpixelScores,
    binary_scores,
    label_boundaries,
    superpixel_scores,
)

__all__ = [
    "MATCHINGS",
    "POLARITIES",
    "BinaryScores",
    "SegmentationMetrics",
    "SegmentationScores",
    "SuperpixelScores",
    "binary_scores",
    "label_boundaries",
    "superpixel_scores",
]
