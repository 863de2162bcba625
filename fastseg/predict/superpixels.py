"""Cut pictures into superpixels, each by itself: what `fastseg superpixels` runs."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .. import backends
from ..metrics import label_boundaries
from ..ops.slic import slic
from .files import SUPERPIXELS, readable
from .journal import Row, rounded
from .labels import encode_labels
from .pictures import read_picture
from .render import encode
from .run import Report, Run, Task

__all__ = ["SlicSettings", "superpixels"]

LINE = (255, 255, 0)


@dataclass(frozen=True)
class SlicSettings:
    """Arguments of `fastseg.slic`."""

    n_segments: int = 100
    compactness: float = 10.0
    max_num_iter: int = 10
    sigma: float = 0.0
    slic_zero: bool = False
    backend: str = "auto"


@dataclass(slots=True)
class SuperpixelRow(Row):
    """One picture's line in superpixels.csv."""

    labels: str = ""  #: file of the labels
    count: int | None = None  #: superpixels

    def cells(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "labels": self.labels,
            "size": self.size,
            "superpixels": self.count,
            "status": self.status,
            "seconds": rounded(self.seconds, 4),
            "note": self.note,
        }


@dataclass(frozen=True)
class SuperpixelTask(Task[SuperpixelRow]):
    """A label map for each picture, and the picture with the boundaries drawn."""

    settings: SlicSettings
    suffix: str = ".png"
    boundaries: bool = True

    row = SuperpixelRow
    journal, table = SUPERPIXELS, "superpixels.csv"
    ours = ("labels", "boundaries")

    def outputs(self, stem: str) -> list[Path]:
        names = [f"labels/{stem}{self.suffix}"]
        if self.boundaries:
            names.append(f"boundaries/{stem}.jpg")
        return [self.out / name for name in names]

    def contents(self, path: str, row: SuperpixelRow) -> list[bytes]:
        picture, notes = read_picture(path)
        row.width, row.height = picture.size
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        labels = slic(pixels, **asdict(self.settings))
        row.labels = readable(f"labels/{row.stem}{self.suffix}")
        row.count, row.status, row.note = len(labels.unique()), "done", "; ".join(notes)
        contents = [encode_labels(labels[0].numpy(), self.suffix)]
        if self.boundaries:
            drawn = np.array(picture)
            drawn[label_boundaries(labels)[0].numpy()] = LINE
            contents.append(encode(Image.fromarray(drawn), ".jpg"))
        return contents


def superpixels(
    paths: Iterable[str],
    out: str | Path,
    settings: SlicSettings | None = None,
    *,
    suffix: str = ".png",
    boundaries: bool = True,
    jobs: int | None = None,
    force: bool = False,
    progress: bool = False,
) -> Report[SuperpixelRow]:
    """Write every picture's superpixels by SLIC, in its own resolution, into `out`.

    labels/ mirrors the folders that the pictures were found in, boundaries/ shows them. A picture
    that cannot be segmented is reported in its row of superpixels.csv, and the others go on.

    Args:
        paths: files, folders and glob patterns: see `find_pictures`.
        out: output folder.
        suffix: ".png", 16-bit grey, or ".npy", int32.
        boundaries: also draw the boundaries.
        jobs: pictures in work at once; None: one for each CPU.
        force: do again what an earlier run has done from the same file with the same settings.
        progress: draw a bar if stderr is a terminal, and name there what fails.

    Raises:
        ValueError: no picture, or `out/labels` is not of an earlier run.
        BackendUnavailable: the named backend cannot run here.
        Interrupted: Ctrl-C; what is done has been written.
    """
    chosen = settings or SlicSettings()
    backend = backends.resolve("slic", torch.device("cpu"), chosen.backend)
    task = SuperpixelTask(Path(out), replace(chosen, backend=backend), suffix, boundaries)
    return Run(paths, task, force).work(jobs, progress)
