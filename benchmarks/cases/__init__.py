"""The cases of each operator family; importing this registers them."""

from . import inpaint, joint, region, slic

__all__ = ["inpaint", "joint", "region", "slic"]
