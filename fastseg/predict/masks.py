"""One picture's foreground mask: decode it, run IEM, draw."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import backends
from ..ops.inpaint import IEMStatus, gaussian_inpaint, iem
from . import render
from .files import JOURNAL, readable
from .journal import Row, rounded
from .pictures import read_picture, working_size
from .run import Task
from .sheet import Sheet

__all__ = ["SHEET", "MaskRow", "MaskTask", "Settings"]


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


@dataclass(slots=True)
class MaskRow(Row):
    """One picture's line in results.csv."""

    foreground: float | None = None  #: share of the pixels
    error: float | None = None  #: inpainting error at working resolution
    steps: int | None = None
    scores: dict[str, float] = field(default_factory=dict)  #: of `truth.score`

    def cells(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "mask": f"masks/{readable(self.stem)}.png" if self.ok else "",
            "size": self.size,
            "foreground_share": rounded(self.foreground, 4),
            "inpainting_error": rounded(self.error, 6),
            "steps": self.steps,
            "status": self.status,
            "seconds": rounded(self.seconds, 4),
            "note": self.note,
            **{name: rounded(value, 6) for name, value in self.scores.items()},
        }

    def facts(self) -> list[str]:
        """What the contact sheet says of it."""
        facts = [
            self.size.replace("x", " × "),
            f"foreground {self.foreground:.1%}",
            f"inpainting error {self.error:.3f}",
            f"{self.steps} steps, {self.status.replace('_', ' ')}",
            f"{self.seconds:.2f} s",
        ]
        if self.scores:
            facts.append(f"IoU {self.scores['iou']:.1%} (oracle {self.scores['oracle_iou']:.1%})")
        return facts + ([self.note] if self.note else [])


SHEET: Sheet[MaskRow] = Sheet(
    "Foreground masks",
    render.PANELS,
    {"mask": "masks/{stem}.png", "overlay": "overlays/{stem}.jpg"},
    MaskRow.facts,
)


@dataclass(frozen=True)
class MaskTask(Task[MaskRow]):
    """A foreground mask for each picture."""

    settings: Settings
    overlay: bool = False
    sheet: bool = True

    row = MaskRow
    journal, table = JOURNAL, "results.csv"
    ours = ("masks", "overlays", "sheet", "index.html")

    def outputs(self, stem: str) -> list[Path]:
        names = [f"masks/{stem}.png"]
        if self.overlay:
            names.append(f"overlays/{stem}.jpg")
        if self.sheet:
            names += [f"sheet/{stem}{suffix}" for suffix in render.PANELS.values()]
        return [self.out / name for name in names]

    def contents(self, path: str, row: MaskRow) -> list[bytes]:
        picture, notes = read_picture(path)
        row.width, row.height = picture.size
        x = render.pixels(picture, working_size(*picture.size, self.settings.size))
        chosen = asdict(self.settings)
        del chosen["size"]
        result = iem(x.to(self.settings.device), **chosen)
        mask = render.full_mask(result.masks[0, 0].cpu().numpy(), picture.size)
        row.foreground = float(np.asarray(mask).mean()) / 255
        row.error, row.steps = float(result.error), int(result.steps)
        row.status = IEMStatus(int(result.status)).name.lower()
        row.note = "; ".join(notes)

        contents = [render.encode(mask, ".png")]
        if self.overlay:
            contents.append(render.encode(render.overlay(picture, mask), ".jpg"))
        if self.sheet:
            contents += render.panels(picture, mask, self._inpainted(x, result.masks)).values()
        return contents

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
