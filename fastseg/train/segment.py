"""Label maps of pictures by a trained method, tile by tile: what `fastseg segment --model` runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..data.base import Batch, DataError
from ..data.geometry import Geometry, resize_image, resize_labels
from ..data.pictures import read_image
from ..methods.base import Method
from ..ops.slic import slic
from ..predict import render
from ..predict.files import CLASSES, readable
from ..predict.journal import Row, rounded
from ..predict.labels import encode_labels
from ..predict.pictures import PictureError, read_picture
from ..predict.run import Report, Run, Task
from ..predict.sheet import Sheet, write_sheet

__all__ = ["ModelSettings", "label_map", "segment_with"]


@dataclass(frozen=True)
class ModelSettings:
    """What decides a label map, beside the weights."""

    model: str  #: tells the weights from others: the run, and how far it has come
    variant: str  #: of the method's predictions
    geometry: Geometry  #: of the training: how pictures are resized, and the size of a crop
    tile: int | None = 512  #: side of the squares that are worked on at once; None: all
    overlap: int = 64  #: of neighbouring tiles, half of which each leaves to the other

    def text(self) -> str:
        tiles = (
            "whole" if self.tile is None else f"tiles of {self.tile}, {self.overlap} overlapping"
        )
        return f"{self.model}, variant {self.variant}, {tiles}"


@dataclass(slots=True)
class ClassRow(Row):
    """One picture's line in classes.csv."""

    shares: dict[str, float] = field(default_factory=dict)  #: cluster → share of the pixels

    def cells(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "labels": f"labels/{readable(self.stem)}.png" if self.ok else "",
            "size": self.size,
            "status": self.status,
            "seconds": rounded(self.seconds, 4),
            "note": self.note,
            **{f"share {name}": rounded(value, 4) for name, value in self.shares.items()},
        }

    def facts(self) -> list[str]:
        """What the contact sheet says of it."""
        shares = (f"{name}: {value:.1%}" for name, value in self.shares.items() if value)
        facts = [self.size.replace("x", " × "), ", ".join(shares), f"{self.seconds:.2f} s"]
        return facts + ([self.note] if self.note else [])


SHEET: Sheet[ClassRow] = Sheet(
    "Label maps",
    {"image": ".image.jpg", "labels": ".labels.png", "overlay": ".overlay.jpg"},
    {"labels": "colours/{stem}.png", "overlay": "overlays/{stem}.jpg"},
    ClassRow.facts,
)


@dataclass(frozen=True)
class ClassTask(Task[ClassRow]):
    """A label map for each picture, and its colours."""

    settings: ModelSettings
    method: Method
    overlay: bool = False
    sheet: bool = True

    row = ClassRow
    journal, table = CLASSES, "classes.csv"
    ours = ("labels", "colours", "overlays", "sheet", "index.html")

    def outputs(self, stem: str) -> list[Path]:
        names = [f"labels/{stem}.png", f"colours/{stem}.png"]
        if self.overlay:
            names.append(f"overlays/{stem}.jpg")
        if self.sheet:
            names += [f"sheet/{stem}{suffix}" for suffix in SHEET.panels.values()]
        return [self.out / name for name in names]

    def contents(self, path: str, row: ClassRow) -> list[bytes]:
        pixels, notes = _read(path, self.method.channels)
        picture = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
        row.width, row.height = picture.size
        labels = label_map(self.method, pixels, self.settings)
        counts = np.bincount(labels.ravel(), minlength=self.method.clusters)
        row.shares = {str(k): float(n / labels.size) for k, n in enumerate(counts)}
        row.status, row.note = "done", "; ".join(notes)

        palette = render.colours(self.method.clusters)
        colours = Image.fromarray(palette[labels])
        contents = [encode_labels(labels, ".png"), render.encode(colours, ".png")]
        if self.overlay:
            contents.append(render.encode(Image.blend(picture, colours, 0.5), ".jpg"))
        if self.sheet:
            small, small_colours = (
                render.small(picture),
                render.small(colours, Image.Resampling.NEAREST),
            )
            panels = (small, small_colours, Image.blend(small, small_colours, 0.5))
            for panel, suffix in zip(panels, SHEET.panels.values(), strict=True):
                contents.append(render.encode(panel, suffix))
        return contents


def _read(path: str, channels: int) -> tuple[np.ndarray, list[str]]:
    """(H,W,C) uint8 and notes on what was decided to get it."""
    if channels == 3:
        picture, notes = read_picture(path)
        return np.asarray(picture), notes
    try:
        return read_image(path, channels), []
    except DataError as error:
        raise PictureError(str(error)) from error


def label_map(method: Method, pixels: np.ndarray, settings: ModelSettings) -> np.ndarray:
    """The clusters (H,W) int32 of a picture (H,W,C) uint8, in its own resolution.

    It is brought to the scale of the training first, and cut into overlapping tiles, so that memory
    does not grow with the picture. Where tiles overlap, each is believed up to the middle. What
    reaches over no more than half the overlap is as if there were no tiles.
    """
    height, width = pixels.shape[:2]
    image = resize_image(pixels, *settings.geometry.resized(height, width))
    labels = np.empty(image.shape[:2], np.int32)
    tile, overlap = settings.tile, settings.overlap
    rows, columns = (_spans(length, tile, overlap) for length in image.shape[:2])
    for top, bottom, first_row, last_row in rows:
        for left, right, first, last in columns:
            found = _predict(method, image[top:bottom, left:right], settings)
            inner = found[first_row - top : last_row - top, first - left : last - left]
            labels[first_row:last_row, first:last] = inner
    return resize_labels(labels, height, width)


def _spans(side: int, tile: int | None, overlap: int) -> list[tuple[int, int, int, int]]:
    """Tiles along a side: start, end, and the part between that each is believed in."""
    if tile is None or side <= tile:
        return [(0, side, 0, side)]
    count = -(-(side - overlap) // (tile - overlap))
    starts = [round(i * (side - tile) / (count - 1)) for i in range(count)]
    middles = [(a + tile + b) // 2 for a, b in pairwise(starts)]
    return [
        (start, start + tile, first, last)
        for start, first, last in zip(starts, [0, *middles], [*middles, side], strict=True)
    ]


@torch.no_grad()
def _predict(method: Method, tile: np.ndarray, settings: ModelSettings) -> np.ndarray:
    """The clusters (h,w) of a tile (h,w,C) uint8."""
    height, width = tile.shape[:2]
    pixels = torch.from_numpy(np.array(tile)).permute(2, 0, 1)[None]  # a copy may be written to
    border = (0, -width % method.multiple, 0, -height % method.multiple)
    valid = F.pad(torch.ones(1, height, width, dtype=torch.bool), border)
    batch = Batch(
        F.pad(pixels.float() / 255, border),
        valid,
        tuple(
            F.pad(_superpixels(pixels, each, settings.geometry), border, value=-1)
            for each in method.superpixels
        ),
        torch.zeros(1, dtype=torch.int64),
        ("",),
    )
    device = next(iter(method.state_dict().values()), pixels).device
    labels = method.predict(batch.to(device))[settings.variant]
    return labels[0, :height, :width].cpu().numpy()


def _superpixels(pixels: torch.Tensor, parameters: Any, geometry: Geometry) -> torch.Tensor:
    """(1,h,w), as dense as `n_segments` are in a crop of the training."""
    height, width = pixels.shape[2:]
    cut_height, cut_width = geometry.shape or (height, width)
    share = height * width / (cut_height * cut_width)
    count = max(1, round(parameters.get("n_segments", 100) * share))
    return slic(pixels, **{**parameters, "n_segments": count})


def segment_with(
    method: Method,
    paths: Iterable[str],
    out: str | Path,
    settings: ModelSettings,
    *,
    jobs: int | None = None,
    overlay: bool = False,
    sheet: bool = True,
    force: bool = False,
    progress: bool = False,
) -> Report[ClassRow]:
    """Write every picture's label map, its colours, classes.csv and a contact sheet into `out`.

    A picture that cannot be segmented is reported in its row, and the others go on.

    Args:
        method: in evaluation mode, on the device to compute on.
        paths: files, folders and glob patterns: see `find_pictures`.
        out: output folder. labels/ and colours/ mirror the folders that the pictures were found in.
        jobs, overlay, sheet, force, progress: as in `segment`.

    Raises:
        ValueError: no picture, no such variant, tiles that are no longer than their overlap, or
            `out/labels` is not of an earlier run.
        Interrupted: Ctrl-C; what is done has been written.
    """
    if settings.variant not in method.variants:
        raise ValueError(
            f"`variant` must be one of {', '.join(method.variants)}, got {settings.variant!r}"
        )
    if settings.tile is not None and settings.tile <= settings.overlap:
        raise ValueError(
            f"`tile` must be greater than `overlap`, got {settings.tile} and {settings.overlap}"
        )
    task = ClassTask(Path(out), settings, method, overlay, sheet)

    def draw(listed: Sequence[tuple[str, ClassRow]]) -> None:
        if sheet:
            shown = [(key, row) for key, row in listed if not row.ok or SHEET.has(task.out, row)]
            done = sum(row.ok for _, row in listed)
            facts = [f"{done} picture{'s' * (done != 1)}", settings.text()]
            write_sheet(task.out, SHEET, shown, facts)

    return Run(paths, task, force).work(jobs, progress, finish=draw)
