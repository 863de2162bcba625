"""Where the regions of a batch are, pooling over them and its inverse, and their embedding."""

from ._index import RegionIndex, region_index
from .api import region_pool, region_unpool
from .embed import region_resize, region_spp

__all__ = [
    "RegionIndex",
    "region_index",
    "region_pool",
    "region_resize",
    "region_spp",
    "region_unpool",
]
