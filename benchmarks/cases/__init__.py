"""The cases of each operator family; importing this registers them."""

from . import inpaint, region, scoring, slic

__all__ = ["inpaint", "region", "scoring", "slic"]
