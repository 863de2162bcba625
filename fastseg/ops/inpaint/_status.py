"""Numbers that the kernels of IEM take and return; csrc/iem.h has them too."""

from enum import IntEnum


class IEMStatus(IntEnum):
    """How the run of one image ended."""

    EXHAUSTED = 0  #: the iterations ran out first
    FIXED_POINT = 1  #: the mask maps to itself
    CYCLE = 2  #: the mask comes back after two updates
    EMPTIED = 3  #: the next mask would have lost a layer, or the initial mask had one alone


EXHAUSTED, FIXED_POINT, CYCLE, EMPTIED = IEMStatus

SMOOTHING = {"none": 0, "authors": 1, "paper": 2}
