"""Losses over the operators."""

from .losses import (
    Entropies,
    class_entropies,
    kl_consistency,
    mutual_information,
    virtual_adversarial,
)

__all__ = [
    "Entropies",
    "class_entropies",
    "kl_consistency",
    "mutual_information",
    "virtual_adversarial",
]
