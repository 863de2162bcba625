"""fastseg: kernel-accelerated unsupervised image segmentation.

The names below are loaded, PyTorch and the operators with them, when first used, so that
`fastseg --help` need not wait for either.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .metrics import BinaryScores, binary_scores
    from .ops.inpaint import IEMResult, IEMStatus, gaussian_filter, gaussian_inpaint, iem

__version__ = "0.1.0"

__all__ = [
    "BinaryScores",
    "IEMResult",
    "IEMStatus",
    "__version__",
    "binary_scores",
    "gaussian_filter",
    "gaussian_inpaint",
    "iem",
]

_HOME = {"BinaryScores": "metrics", "binary_scores": "metrics"}
_MODULES = ("backends", "metrics", "ops", "predict")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in __all__:
        return getattr(import_module(f"{__name__}.{_HOME.get(name, 'ops.inpaint')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
