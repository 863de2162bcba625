"""How often each cluster meets each class."""

from .api import confusion

__all__ = ["confusion"]
