"""Soft normalised cut."""

from .api import soft_ncut

__all__ = ["soft_ncut"]
