"""The cases of each operator family; importing this registers them."""

from . import inpaint, slic

__all__ = ["inpaint", "slic"]
