"""From pictures to foreground masks on disk: what `fastseg segment` and `fastseg eval` run.

Rooms, ground floor first: files (which pictures, what names), pictures (decoding), workers
(threads), render (from arrays to files), journal (what is done), sheet (the contact sheet), truth
(scoring), task (one picture), segment (a run).
"""

from .files import find_pictures
from .segment import Interrupted, Report, segment
from .task import Settings
from .truth import MaskFolder, evaluate, mean_scores
from .workers import Stopped

__all__ = [
    "Interrupted",
    "MaskFolder",
    "Report",
    "Settings",
    "Stopped",
    "evaluate",
    "find_pictures",
    "mean_scores",
    "segment",
]
