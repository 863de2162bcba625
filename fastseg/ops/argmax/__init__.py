"""Hard choices with the gradient of soft ones."""

from .api import argmax_in_place

__all__ = ["argmax_in_place"]
