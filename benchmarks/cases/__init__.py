"""The cases of each operator family; importing this registers them."""

from . import inpaint

__all__ = ["inpaint"]
