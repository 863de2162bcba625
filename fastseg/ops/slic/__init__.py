"""SLIC superpixels."""

from .api import slic

__all__ = ["slic"]
