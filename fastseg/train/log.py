"""What a run tells: metrics.jsonl, TensorBoard, pictures, and lines on the terminal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..data.base import Batch
from ..predict.files import write
from ..predict.render import colours
from .checkpoint import Position
from .extra import extra
from .score import BEST, LAST, best_of

__all__ = ["METRICS", "Log", "Shown", "draw", "read_metrics", "shown"]

METRICS = "metrics.jsonl"
GAP = 2  # pixels between pictures


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, one for each epoch; none if there is no such file."""
    path = folder / METRICS
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines(keepends=True)
    # What a killed run was writing has no end of line yet.
    return [json.loads(line) for line in lines if line.endswith("\n")]


class Log:
    """Where rank 0 reports; `quiet` on the others.

    Args:
        at: where the run goes on; what was written of later epochs is taken back.
    """

    def __init__(self, folder: Path, at: Position, tensorboard: bool, quiet: bool = False) -> None:
        self.folder, self.quiet = folder, quiet
        self.writer: Any = None
        if quiet:
            return
        self.lines = [line for line in read_metrics(folder) if line["epoch"] <= at.epoch]
        write(folder / METRICS, "".join(map(_json_line, self.lines)).encode())
        if tensorboard:
            board = extra("torch.utils.tensorboard")
            self.writer = board.SummaryWriter(str(folder / "tensorboard"), purge_step=at.step)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()

    def step(self, step: int, scalars: Mapping[str, float]) -> None:
        if self.writer is not None:
            for name, value in scalars.items():
                self.writer.add_scalar(f"step/{name}", value, step)

    def epoch(
        self, line: dict[str, Any], scores: Mapping[str, Mapping[str, Any]], epochs: int
    ) -> None:
        """Write the line of an epoch, with the scores of each variant if there are any."""
        if self.quiet:
            return
        if scores:
            line["scores"] = {variant: {LAST: dict(found)} for variant, found in scores.items()}
            for variant, best in best_of([*self.lines, line]).items():
                if variant in scores:
                    line["scores"][variant][BEST] = best
        self.lines.append(line)
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(_json_line(line))
        tqdm.write(_words(line, epochs))
        if self.writer is not None:
            self._board(line)

    def _board(self, line: Mapping[str, Any]) -> None:
        for name, value in {**line, **line.get("measures", {})}.items():
            if isinstance(value, float):
                self.writer.add_scalar(f"epoch/{name}", value, line["step"])
        for variant, found in line.get("scores", {}).items():
            for name in ("accuracy", "miou", "nmi"):
                self.writer.add_scalar(f"{name}/{variant}", found[LAST][name], line["step"])
        self.writer.flush()

    def pictures(self, step: int, rows: Sequence[np.ndarray]) -> None:
        """Write rows (h,w,3) uint8, each a picture and what was made of it, as one."""
        if self.quiet or not rows:
            return
        sheet = _stack(rows, 0)
        path = self.folder / "pictures" / f"{step:08}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(sheet).save(path)
        if self.writer is not None:
            self.writer.add_image("pictures", sheet, step, dataformats="HWC")


def _json_line(line: Mapping[str, Any]) -> str:
    # JSON has no infinity, which the gradient is where fp16 overflowed.
    known = {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in line.items()}
    return json.dumps(known) + "\n"


def _words(line: Mapping[str, Any], epochs: int) -> str:
    parts = [f"epoch {line['epoch']}/{epochs}", f"{line['seconds']:.1f} s"]
    if "loss" in line:
        parts += [f"loss {line['loss']:.4f}", f"{line['pictures_per_second']:.1f} pictures/s"]
    parts += [f"{name} {value:.4g}" for name, value in line.get("measures", {}).items()]
    for variant, found in line.get("scores", {}).items():
        last, best = (100 * found[name]["accuracy"] for name in (LAST, BEST))
        parts.append(f"{variant} accuracy last {last:.2f}, best (oracle) {best:.2f}")
    return "  ".join(parts)


# --- Pictures ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A picture to draw, and what was made of it."""

    image: np.ndarray  #: (H,W,C) uint8
    predicted: Mapping[str, np.ndarray]  #: (H,W) clusters, −1 for none, of each variant
    truth: np.ndarray | None  #: (H,W) classes, −1 for none


def shown(batch: Batch, predicted: Mapping[str, torch.Tensor], count: int) -> list[Shown]:
    """The first `count` samples of a batch."""
    images = (batch.images[:count] * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    maps = {variant: labels[:count].cpu().numpy() for variant, labels in predicted.items()}
    truth = None if batch.labels is None else batch.labels[:count].cpu().numpy()
    return [
        Shown(
            image, {v: labels[i] for v, labels in maps.items()}, None if truth is None else truth[i]
        )
        for i, image in enumerate(images)
    ]


def draw(samples: Sequence[Shown], mappings: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Rows: picture, variants, truth; clusters in the colours of the classes they are scored as.

    Args:
        mappings: class of each cluster, −1 for none, of each variant. Clusters without a class have
            colours of their own; pixels without a cluster or class are black.
    """
    classes = [int(mapping.max(initial=-1)) for mapping in mappings.values()]
    classes += [int(sample.truth.max(initial=-1)) for sample in samples if sample.truth is not None]
    count = max(classes, default=-1) + 1
    black = np.zeros((1, 3), np.uint8)  # what −1 takes

    def painted(labels: np.ndarray, mapping: np.ndarray) -> np.ndarray:
        loose = count + np.cumsum(mapping < 0) - 1
        places = np.where(mapping < 0, loose, mapping)
        palette = colours(max(count, int(places.max(initial=-1)) + 1))
        return np.concatenate([palette[places], black])[labels]

    rows = []
    for sample in samples:
        image = sample.image[..., :3]
        panels = [np.broadcast_to(image, (*image.shape[:2], 3)) if image.shape[2] == 1 else image]
        panels += [painted(labels, mappings[v]) for v, labels in sample.predicted.items()]
        panels += [] if sample.truth is None else [painted(sample.truth, np.arange(count))]
        rows.append(_stack(panels, 1))
    return rows


def _stack(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Pictures of one size beside (1) or below (0) each other."""
    shape = list(parts[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([piece for part in parts for piece in (part, gap)][:-1], axis)
