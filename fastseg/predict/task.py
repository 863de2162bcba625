"""One picture: decode it, find its mask, write its files."""

import hashlib
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Event

import numpy as np
import torch

from .. import backends
from ..ops.inpaint import IEMStatus, gaussian_inpaint, iem
from . import render
from .files import readable, write
from .journal import Row
from .pictures import PictureError, read_picture, working_size

__all__ = ["Job", "Settings", "Task"]


@dataclass(frozen=True)
class Settings:
    """What decides a mask; all but `size` are arguments of `fastseg.iem`."""

    size: int | None = 128  #: shorter side at which IEM works, pictures never enlarged; None: full
    init: tuple[int, ...] = (44, 78, 92)
    iterations: int = 150
    lamb: float = 0.001
    smoothing: str = "authors"
    boundary_only: bool = True
    sigma: float = 5.0
    taps: int = 11
    passes: int = 2
    backend: str = "auto"  #: "auto" is the best for the CPU; a GPU's backend computes on the GPU

    @property
    def device(self) -> torch.device:
        return torch.device(backends.DEVICE.get(self.backend, "cpu"))

    def text(self) -> str:
        """The settings in words, the less usual ones only if they differ from the defaults."""
        parts = [
            "full size" if self.size is None else f"{self.size} pixels on the shorter side",
            f"initial squares {', '.join(map(str, self.init))}",
            f"at most {self.iterations} steps",
            f"λ {self.lamb:g}",
            f"backend {self.backend}",
        ]
        if self.smoothing != "authors":
            parts.append(f"smoothing {self.smoothing}")
        if not self.boundary_only:
            parts.append("updates everywhere")
        if (self.sigma, self.taps, self.passes) != (5.0, 11, 2):
            parts.append(f"kernel σ {self.sigma:g}, {self.taps} taps, {self.passes} passes")
        return "IEM: " + ", ".join(parts)

    def resolved(self) -> "Settings":
        """With the backend that "auto" stands for.

        Raises:
            BackendUnavailable: the named backend cannot run here.
        """
        return replace(self, backend=backends.resolve("iem", self.device, self.backend))

    def digest(self) -> str:
        """The same for the same settings only."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Job:
    """A picture to segment."""

    path: str
    key: str  #: absolute path
    stem: str  #: the name of its results
    made_from: str  #: for the journal


@dataclass(frozen=True)
class Task:
    """What to write for each picture, and how; called on threads."""

    out: Path
    settings: Settings
    overlay: bool
    sheet: bool
    closed: Event = field(default_factory=Event)  #: set: write nothing any more

    def outputs(self, stem: str) -> list[Path]:
        """The files of the picture whose results are called `stem`."""
        names = [f"masks/{stem}.png"]
        if self.overlay:
            names.append(f"overlays/{stem}.jpg")
        if self.sheet:
            names += [f"sheet/{stem}{suffix}" for suffix in render.PANELS.values()]
        return [self.out / name for name in names]

    def in_sheet(self, stem: str) -> bool:
        return (self.out / f"sheet/{stem}{render.PANELS['mask']}").exists()

    def __call__(self, job: Job) -> Row:
        """Segment one picture. Whatever goes wrong is in the row's note."""
        start = time.perf_counter()
        row = Row(readable(job.path), job.stem)
        try:
            self._segment(job.path, row)
        except PictureError as error:
            row.note = str(error)
        except OSError as error:
            row.note = f"cannot be written: {error.strerror or error}"
        except Exception as error:
            row.note = f"{type(error).__name__}: {error}"
        row.seconds = time.perf_counter() - start
        return row

    def _segment(self, path: str, row: Row) -> None:
        picture, notes = read_picture(path)
        row.width, row.height = picture.size
        x = render.pixels(picture, working_size(*picture.size, self.settings.size))
        chosen = asdict(self.settings)
        del chosen["size"]
        result = iem(x.to(self.settings.device), **chosen)
        mask = render.full_mask(result.masks[0, 0].cpu().numpy(), picture.size)

        outputs = self.outputs(row.stem)
        contents = [render.encode(mask, ".png")]
        if self.overlay:
            contents.append(render.encode(render.overlay(picture, mask), ".jpg"))
        if self.sheet:
            contents += render.panels(picture, mask, self._inpainted(x, result.masks)).values()
        if self.closed.is_set():
            raise PictureError("interrupted")
        for output, content in zip(outputs, contents, strict=True):
            write(output, content)

        row.foreground = float(np.asarray(mask).mean()) / 255
        row.error, row.steps = float(result.error), int(result.steps)
        row.status = IEMStatus(int(result.status)).name.lower()
        row.note = "; ".join(notes)

    def _inpainted(self, x: torch.Tensor, masks: torch.Tensor) -> np.ndarray:
        """Every pixel predicted from the other layer: x (1,3,h,w) uint8 → (h,w,3) uint8."""
        s = self.settings
        backend = "reference" if s.backend == "reference" else "auto"
        pixels = x.to(masks.device).float()
        from_background, from_foreground = (
            gaussian_inpaint(pixels, known, s.sigma, s.taps, s.passes, backend)
            for known in (~masks, masks)
        )
        filled = torch.where(masks, from_background, from_foreground)
        return filled[0].round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
