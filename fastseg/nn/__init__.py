"""Modules and losses over the operators."""

from .losses import (
    Entropies,
    class_entropies,
    kl_consistency,
    mutual_information,
    virtual_adversarial,
)
from .masked_conv import MaskedConv2d, use_ordering
from .region_embedding import RegionEmbedding

__all__ = [
    "Entropies",
    "MaskedConv2d",
    "RegionEmbedding",
    "class_entropies",
    "kl_consistency",
    "mutual_information",
    "use_ordering",
    "virtual_adversarial",
]
