"""The papers, a file each: configuration, loss, predictions."""

from .air import AIR
from .autoencoder import Autoencoder
from .base import Method
from .baselines import KMeans, Random, Supervised
from .cirs import CIRS
from .iic import IIC
from .inmars import InMARS
from .wnet import WNet

__all__ = [
    "AIR",
    "CIRS",
    "IIC",
    "METHODS",
    "Autoencoder",
    "InMARS",
    "KMeans",
    "Method",
    "Random",
    "Supervised",
    "WNet",
]

#: By the name that the commands know.
METHODS: dict[str, type[Method]] = {
    "air": AIR,
    "autoencoder": Autoencoder,
    "cirs": CIRS,
    "iic": IIC,
    "inmars": InMARS,
    "kmeans": KMeans,
    "random": Random,
    "supervised": Supervised,
    "wnet": WNet,
}
