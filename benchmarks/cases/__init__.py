"""The cases of each operator family; importing this registers them."""

from . import (
    argmax,
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
    "argmax",
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
