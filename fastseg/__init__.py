"""fastseg: kernel-accelerated unsupervised image segmentation."""

from . import backends
from .metrics import (
    BinaryScores,
    SegmentationMetrics,
    SegmentationScores,
    SuperpixelScores,
    binary_scores,
    superpixel_scores,
)
from .ops.inpaint import IEMResult, IEMStatus, gaussian_filter, gaussian_inpaint, iem
from .ops.ncut import soft_ncut
from .ops.region import (
    RegionIndex,
    region_index,
    region_pool,
    region_resize,
    region_spp,
    region_unpool,
)
from .ops.slic import slic

__version__ = "0.1.0"

__all__ = [
    "BinaryScores",
    "IEMResult",
    "IEMStatus",
    "RegionIndex",
    "SegmentationMetrics",
    "SegmentationScores",
    "SuperpixelScores",
    "__version__",
    "backends",
    "binary_scores",
    "gaussian_filter",
    "gaussian_inpaint",
    "iem",
    "region_index",
    "region_pool",
    "region_resize",
    "region_spp",
    "region_unpool",
    "slic",
    "soft_ncut",
    "superpixel_scores",
]
