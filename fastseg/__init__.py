"""fastseg: kernel-accelerated unsupervised image segmentation."""

from .ops.inpaint import IEMResult, IEMStatus, gaussian_filter, gaussian_inpaint, iem

__version__ = "0.1.0"

__all__ = [
    "IEMResult",
    "IEMStatus",
    "__version__",
    "gaussian_filter",
    "gaussian_inpaint",
    "iem",
]
