"""COCO-Persons: persons and everything else."""

import numpy as np

from .coco_stuff import LEAST_SIDE, Coco
from .pictures import VOID

__all__ = ["CocoPersons"]

PERSON = 0  # fine id
LEAST_SHARE = 0.1


class CocoPersons(Coco):
    """Pictures of COCO with persons in them; what is not labelled has no class.

    The set of InfoSeg (Harb and Knöbelreiter, GCPR 2021, §5.3) is 15,399 pictures of COCO chosen in
    a way that the paper leaves open. These are of at least 360×360, at least 10 % of which are
    persons; the authors' own list goes where `Coco` says.
    """

    name = "coco-persons"
    classes = ("other", "person")

    def chosen(self, values: np.ndarray) -> bool:
        return min(values.shape) >= LEAST_SIDE and (values == PERSON).mean() >= LEAST_SHARE

    def group(self, values: np.ndarray) -> np.ndarray:
        return np.where(values == VOID, -1, values == PERSON).astype(np.int16)
