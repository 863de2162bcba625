"""The cases of each operator family; importing this registers them."""

from . import confusion, inpaint, joint, ncut, region, scoring, slic, training

__all__ = ["confusion", "inpaint", "joint", "ncut", "region", "scoring", "slic", "training"]
