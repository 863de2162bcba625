"""The papers, a file each: configuration, loss, predictions."""

from .ac import AC
from .arl import ARL
from .base import Method
from .baselines import KMeans, Random, Supervised
from .iic import IIC
from .infoseg import InfoSeg
from .inmars import InMARS

__all__ = [
    "AC",
    "ARL",
    "IIC",
    "METHODS",
    "InMARS",
    "InfoSeg",
    "KMeans",
    "Method",
    "Random",
    "Supervised",
]

#: By the name that the commands know.
METHODS: dict[str, type[Method]] = {
    "ac": AC,
    "arl": ARL,
    "iic": IIC,
    "infoseg": InfoSeg,
    "inmars": InMARS,
    "kmeans": KMeans,
    "random": Random,
    "supervised": Supervised,
}
