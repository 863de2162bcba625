"""Training: from a method's name and options to a folder with its weights and scores.

Rooms, ground floor first: extra (optional packages), config (flags), signals (Ctrl-C), lock (one
process a folder), ranks (several processes), checkpoint (the file), score (against the truth), log
(what is written), run (what it is made of), loop (what it does), restore (what it has left),
segment (pictures by it), tables, results and sweep (the runs of a paper's table).
"""

from .checkpoint import Checkpoint, CheckpointError, load
from .config import ConfigError, TrainConfig, parse
from .extra import MissingExtra
from .loop import Stopped, TrainingError, train
from .restore import Trained, restore, score_run

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ConfigError",
    "MissingExtra",
    "Stopped",
    "TrainConfig",
    "Trained",
    "TrainingError",
    "load",
    "parse",
    "restore",
    "score_run",
    "train",
]
