"""The cases of each operator family; importing this registers them."""

from . import inpaint, region, slic

__all__ = ["inpaint", "region", "slic"]
