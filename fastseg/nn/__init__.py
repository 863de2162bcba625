"""Modules and losses over the operators."""

from .autoregressive import AutoregressiveBlock, AutoregressiveNet, Critic
from .hourglass import Hourglass
from .infoseg import InfoSegNet
from .losses import (
    Entropies,
    class_entropies,
    frozen_statistics,
    kl_consistency,
    mutual_information,
    virtual_adversarial,
)
from .masked_conv import MaskedConv2d, use_ordering
from .ordered_attention import OrderedAttention
from .psp import PSPNet
from .region_embedding import RegionEmbedding
from .unet import UNet
from .vgg import VGG

__all__ = [
    "VGG",
    "AutoregressiveBlock",
    "AutoregressiveNet",
    "Critic",
    "Entropies",
    "Hourglass",
    "InfoSegNet",
    "MaskedConv2d",
    "OrderedAttention",
    "PSPNet",
    "RegionEmbedding",
    "UNet",
    "class_entropies",
    "frozen_statistics",
    "kl_consistency",
    "mutual_information",
    "use_ordering",
    "virtual_adversarial",
]
