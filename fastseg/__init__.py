"""fastseg: kernel-accelerated unsupervised image segmentation."""

from . import backends
from .metrics import BinaryScores, SuperpixelScores, binary_scores, superpixel_scores
from .ops.inpaint import IEMResult, IEMStatus, gaussian_filter, gaussian_inpaint, iem
from .ops.slic import slic

__version__ = "0.1.0"

__all__ = [
    "BinaryScores",
    "IEMResult",
    "IEMStatus",
    "SuperpixelScores",
    "__version__",
    "backends",
    "binary_scores",
    "gaussian_filter",
    "gaussian_inpaint",
    "iem",
    "slic",
    "superpixel_scores",
]
