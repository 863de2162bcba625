"""Attention in the order of a scan."""

from .api import ordered_attention

__all__ = ["ordered_attention"]
