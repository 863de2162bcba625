"""Modules and losses over the operators."""

from .hourglass import Hourglass
from .losses import (
    Entropies,
    class_entropies,
    frozen_statistics,
    kl_consistency,
    mutual_information,
    virtual_adversarial,
)
from .region_embedding import RegionEmbedding
from .unet import UNet
from .vgg import VGG

__all__ = [
    "VGG",
    "Entropies",
    "Hourglass",
    "RegionEmbedding",
    "UNet",
    "class_entropies",
    "frozen_statistics",
    "kl_consistency",
    "mutual_information",
    "virtual_adversarial",
]
