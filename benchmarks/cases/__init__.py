"""The cases of each operator family; importing this registers them."""

from . import attention, confusion, inpaint, joint, ncut, region, scoring, slic

__all__ = ["attention", "confusion", "inpaint", "joint", "ncut", "region", "scoring", "slic"]
