"""The papers, a file each: configuration, loss, predictions."""

from .ac import AC
from .air import AIR
from .arl import ARL
from .autoencoder import Autoencoder
from .base import Method
from .baselines import KMeans, Random, Supervised
from .cirs import CIRS
from .deepcluster import DeepCluster
from .iic import IIC
from .infoseg import InfoSeg
from .inmars import InMARS
from .opencv import SIFT, GrabCut
from .segnet import IEM, SegNet
from .wnet import WNet

__all__ = [
    "AC",
    "AIR",
    "ARL",
    "CIRS",
    "IEM",
    "IIC",
    "METHODS",
    "SIFT",
    "Autoencoder",
    "DeepCluster",
    "GrabCut",
    "InMARS",
    "InfoSeg",
    "KMeans",
    "Method",
    "Random",
    "SegNet",
    "Supervised",
    "WNet",
]

#: By the name that the commands know.
METHODS: dict[str, type[Method]] = {
    "ac": AC,
    "air": AIR,
    "arl": ARL,
    "autoencoder": Autoencoder,
    "cirs": CIRS,
    "deepcluster": DeepCluster,
    "grabcut": GrabCut,
    "iem": IEM,
    "iic": IIC,
    "infoseg": InfoSeg,
    "inmars": InMARS,
    "kmeans": KMeans,
    "random": Random,
    "segnet": SegNet,
    "sift": SIFT,
    "supervised": Supervised,
    "wnet": WNet,
}
