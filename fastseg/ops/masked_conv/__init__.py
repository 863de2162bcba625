"""Masked convolution: each pixel sees what is before it in a raster ordering."""

from .api import masked_conv2d, masked_conv2d_pair

__all__ = ["masked_conv2d", "masked_conv2d_pair"]
