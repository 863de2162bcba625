"""The cases of each operator family; importing this registers them."""

from . import confusion, inpaint, ncut, region, slic

__all__ = ["confusion", "inpaint", "ncut", "region", "slic"]
