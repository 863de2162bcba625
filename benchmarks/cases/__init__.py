"""The cases of each operator family; importing this registers them."""

from . import inpaint, joint, region, scoring, slic

__all__ = ["inpaint", "joint", "region", "scoring", "slic"]
