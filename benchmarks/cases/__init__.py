"""The cases of each operator family; importing this registers them."""

from . import (
    attention,
    autoregressive,
    confusion,
    inpaint,
    joint,
    masked_conv,
    ncut,
    region,
    scoring,
    slic,
    training,
)

__all__ = [
    "attention",
    "autoregressive",
    "confusion",
    "inpaint",
    "joint",
    "masked_conv",
    "ncut",
    "region",
    "scoring",
    "slic",
    "training",
]
