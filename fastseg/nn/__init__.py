"""Modules and losses over the operators."""

from .losses import (
    Entropies,
    class_entropies,
    kl_consistency,
    mutual_information,
    virtual_adversarial,
)
from .ordered_attention import OrderedAttention
from .region_embedding import RegionEmbedding

__all__ = [
    "Entropies",
    "OrderedAttention",
    "RegionEmbedding",
    "class_entropies",
    "kl_consistency",
    "mutual_information",
    "virtual_adversarial",
]
