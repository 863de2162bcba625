"""`python -m benchmarks.quality`: IEM's scores on pictures whose masks are known.

Exit status: 0 scored, 1 the mean IoU is further from the fp64 reference's than it may be, 2 there
are no pictures.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

import fastseg
from fastseg.metrics import POLARITIES, BinaryScores, binary_scores

from . import machine
from .images import image_a_thread
from .report import write_csv

# Set and the folder of its masks: 0 background, 1 foreground, 255 neither.
SETS = {"flowers17": "masks_fg", "ecssd": "masks", "weizmann_horses": "masks"}
DATA = machine.ROOT.parent / "shared" / "data"
SIDE, VOID = 128, 255
MOST_DIFFERENCE = 0.002

ABLATIONS: dict[str, dict[str, Any]] = {
    "λ = 0": {"lamb": 0.0},
    "no smoothing": {"smoothing": "none"},
    "not restricted": {"boundary_only": False},
    "paper's smoothing": {"smoothing": "paper"},
    "one 21-tap pass": {"taps": 21, "passes": 1},
}


class Pictures(NamedTuple):
    """Pictures with their truth, resized on their shorter side and cropped to a square."""

    images: torch.Tensor  #: (N,3,SIDE,SIDE) uint8
    truth: torch.Tensor  #: (N,1,SIDE,SIDE) bool
    void: torch.Tensor  #: (N,1,SIDE,SIDE) bool

    def spread(self, count: int) -> "Pictures":
        """`count` of them, evenly spaced."""
        rows = torch.linspace(0, len(self.images) - 1, min(count, len(self.images))).long()
        return Pictures(*(part[rows] for part in self))


def load(folder: Path, masks: str, limit: int | None) -> Pictures:
    """The pictures of `folder`/images that have a mask, `limit` of them evenly spaced."""
    files = [(p, folder / masks / f"{p.stem}.png") for p in sorted((folder / "images").iterdir())]
    files = [pair for pair in files if pair[1].exists()]
    if limit is not None and limit < len(files):
        files = [files[i] for i in np.linspace(0, len(files) - 1, limit).astype(int)]
    pictures = [_square(Image.open(p).convert("RGB"), Image.Resampling.BICUBIC) for p, _ in files]
    truths = [_square(Image.open(m), Image.Resampling.NEAREST) for _, m in files]
    truth = torch.from_numpy(np.stack(truths))[:, None]
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return Pictures(images, truth == 1, truth == VOID)


def _square(picture: Image.Image, filter: Image.Resampling) -> np.ndarray:
    scale = SIDE / min(picture.size)
    width, height = (max(SIDE, round(scale * n)) for n in picture.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    resized = picture.resize((width, height), filter)
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))


def segment(images: torch.Tensor, backend: str, **options: Any) -> torch.Tensor:
    return fastseg.iem(images, backend=backend, **options).masks


def score(name: str, way: str, masks: torch.Tensor, pictures: Pictures) -> dict[str, Any]:
    """One line of the table: mean scores in percent, honest and with the better polarity."""
    line: dict[str, Any] = {"set": name, "way": way, "pictures": len(masks)}
    for polarity in POLARITIES:
        scores = binary_scores(masks, pictures.truth, pictures.void, polarity)
        for field, values in zip(BinaryScores._fields, scores, strict=True):
            line[f"{field} {polarity}"] = 100 * values.nanmean().item()
    return line


def show(line: dict[str, Any]) -> None:
    numbers = [f"{v:8.2f}" for v in line.values() if isinstance(v, float)]
    print(f"{line['set']:<17}{line['way']:<20}{line['pictures']:>8}" + "".join(numbers), flush=True)


def against_reference(
    name: str, pictures: Pictures, backend: str, init: Any
) -> tuple[list[dict[str, Any]], float]:
    """Lines of the kernel and of the fp64 reference on the same pictures; IoU's difference."""
    ours = segment(pictures.images, backend, init=init)
    run = partial(segment, backend="reference", init=init)
    exact = image_a_thread(run, pictures.images.double() / 255)
    lines = [
        score(name, f"{backend}, these", ours, pictures),
        score(name, "reference fp64", exact, pictures),
    ]
    iou = BinaryScores._fields[1] + " given"
    difference = abs(lines[0][iou] - lines[1][iou]) / 100
    equal = (ours == exact).double().mean().item()
    for line in lines:
        show(line)
    print(
        f"{'':<17}mean IoU apart by {difference:.5f} (goal ≤ {MOST_DIFFERENCE}), "
        f"{equal:.3%} of the pixels equal"
    )
    return lines, difference


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of {', '.join(SETS)}")
    parser.add_argument("--limit", type=int, metavar="N", help="pictures of each set; all if none")
    parser.add_argument("--reference", type=int, default=16, metavar="N",
                        help="pictures of each set for the fp64 reference too")  # fmt: skip
    parser.add_argument("--ablations", action="store_true", help="also the paper's variants")
    parser.add_argument("--init", type=int, nargs="+", default=[44, 78, 92], metavar="SIDE")
    parser.add_argument("--backend", default="native")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write quality.csv there")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    present = {name: masks for name, masks in SETS.items() if (options.data / name).is_dir()}
    if not present:
        print(f"{options.data} holds none of {', '.join(SETS)}", file=sys.stderr)
        return 2
    ways: dict[str, dict[str, Any]] = {options.backend: {}}
    if options.ablations:
        ways |= ABLATIONS
    scores = "".join(f"{name:>8}" for name in ("acc", "IoU", "mIoU", "DICE"))
    print(f"{'':<45}{'honest':>20}{'better polarity':>35}")
    print(f"{'set':<17}{'way':<20}{'pictures':>8}{scores}{scores}")
    lines: list[dict[str, Any]] = []
    apart = 0.0
    for name, masks in present.items():
        pictures = load(options.data / name, masks, options.limit)
        for way, settings in ways.items():
            found = segment(pictures.images, options.backend, init=options.init, **settings)
            lines.append(score(name, way, found, pictures))
            show(lines[-1])
        if options.reference:
            few = pictures.spread(options.reference)
            more, difference = against_reference(name, few, options.backend, options.init)
            lines += more
            apart = max(apart, difference)
    if options.out:
        about = machine.describe("cpu")
        write_csv([{**line, **about} for line in lines], [*lines[0], *about],
                  options.out / "quality.csv")  # fmt: skip
    return int(apart > MOST_DIFFERENCE)


if __name__ == "__main__":
    sys.exit(main())
