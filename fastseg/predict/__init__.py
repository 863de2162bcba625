"""From pictures to masks and superpixels on disk: what `fastseg segment` and `fastseg eval` run.

Rooms, ground floor first: files (which pictures, what names), pictures (decoding), workers
(threads), render (from arrays to files), journal (what is done), run (a task over pictures), sheet
(the contact sheet), masks (one picture's mask), truth (scoring), segment (the whole); labels (label
maps and their scoring), superpixels (the whole). What a trained method makes of pictures is in
`fastseg.train`.
"""

from .files import find_pictures
from .labels import LabelFolder, evaluate_superpixels
from .masks import Settings
from .run import Interrupted, Report
from .segment import segment
from .superpixels import SlicSettings, superpixels
from .truth import MaskFolder, evaluate, mean_scores
from .workers import Stopped

__all__ = [
    "Interrupted",
    "LabelFolder",
    "MaskFolder",
    "Report",
    "Settings",
    "SlicSettings",
    "Stopped",
    "evaluate",
    "evaluate_superpixels",
    "find_pictures",
    "mean_scores",
    "segment",
    "superpixels",
]
