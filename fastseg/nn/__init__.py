"""Modules and losses over the operators."""

from .losses import (
    Entropies,
    class_entropies,
    kl_consistency,
    mutual_information,
    virtual_adversarial,
)
from .region_embedding import RegionEmbedding

__all__ = [
    "Entropies",
    "RegionEmbedding",
    "class_entropies",
    "kl_consistency",
    "mutual_information",
    "virtual_adversarial",
]
