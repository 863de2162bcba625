"""Data sets, from their archives' layouts or a folder of pictures, to batches.

Rooms, ground floor first: geometry (to one size), base (what a set is), pictures (files), a file
for each set, catalogue (sets by name), cache (arrays found once), superpixels, relabelled (pictures
with a method's own labels), loader (batches).
"""

from .base import Batch, DataError, Dataset, Sample
from .catalogue import NAMES, open_dataset
from .geometry import Geometry
from .loader import batches, count_batches
from .superpixels import SuperpixelCache

__all__ = [
    "NAMES",
    "Batch",
    "DataError",
    "Dataset",
    "Geometry",
    "Sample",
    "SuperpixelCache",
    "batches",
    "count_batches",
    "open_dataset",
]
