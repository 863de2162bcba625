"""Modules and losses over the operators."""

from .autoregressive import AutoregressiveBlock, AutoregressiveNet, Critic
from .losses import (
    Entropies,
    class_entropies,
    kl_consistency,
    mutual_information,
    virtual_adversarial,
)
from .masked_conv import MaskedConv2d, use_ordering
from .ordered_attention import OrderedAttention
from .region_embedding import RegionEmbedding

__all__ = [
    "AutoregressiveBlock",
    "AutoregressiveNet",
    "Critic",
    "Entropies",
    "MaskedConv2d",
    "OrderedAttention",
    "RegionEmbedding",
    "class_entropies",
    "kl_consistency",
    "mutual_information",
    "use_ordering",
    "virtual_adversarial",
]
