"""The cases of each operator family; importing this registers them."""

from . import confusion, inpaint, joint, masked_conv, ncut, region, scoring, slic

__all__ = ["confusion", "inpaint", "joint", "masked_conv", "ncut", "region", "scoring", "slic"]
