"""Where the regions of a batch are, pooling over them, and its inverse."""

from ._index import RegionIndex, region_index
from .api import region_pool, region_unpool

__all__ = ["RegionIndex", "region_index", "region_pool", "region_unpool"]
