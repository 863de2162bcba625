"""`python -m benchmarks.labels`: how many of slic's labels differ from scikit-image's.

Exit status: 0 compared, 1 more labels differ than may, 2 there are no pictures.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data
from skimage.color import rgb2lab
from skimage.segmentation import slic as theirs

import fastseg

from . import machine
from .images import SAMPLES
from .quality import DATA
from .report import write_csv

SETS = ("ecssd", "flowers17", "msrc_v2", "weizmann_horses")
COUNTS = (20, 100, 400, 1500, 6000)
# What goes in, and the share of all pictures' pixels that may lie in another region.
INPUTS = {"Lab float32": 0.0, "RGB float32": 1e-4, "RGB uint8": None}


def pictures(folder: Path, each: int, longest: int | None) -> Iterator[np.ndarray]:
    """uint8 (H,W,3): scikit-image's samples, then `each` of every set, evenly spaced."""
    found = []
    for name in SAMPLES:
        loaded = getattr(data, name)()
        found.append(Image.fromarray(loaded[0] if isinstance(loaded, tuple) else loaded))
    for name in SETS:
        files = sorted((folder / name / "images").rglob("*.*"))
        chosen = np.linspace(0, len(files) - 1, each if files else 0).astype(int)
        found += [Image.open(files[i]).convert("RGB") for i in chosen]
    for picture in found:
        if longest is not None:
            picture.thumbnail((longest, longest))
        yield np.asarray(picture)


def as_input(picture: np.ndarray, name: str) -> tuple[np.ndarray, dict[str, Any]]:
    """What both are given, and the options."""
    if name == "RGB uint8":
        return picture, {}
    scaled = picture / np.float32(255)
    if name == "RGB float32":
        return scaled, {}
    return rgb2lab(scaled), {"compactness": 0.1, "convert2lab": False}  # the latter rescales


def differing(actual: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Shares of the pixels with another label and of those in another region.

    Regions are numbered in raster order, so one more changes the labels of all that follow; the
    latter share knows no names: 1 − Σ over regions of the largest overlap ÷ pixels, the greater of
    both ways.
    """
    columns = int(expected.max()) + 1
    pairs = actual.astype(np.int64).ravel() * columns + expected.ravel()
    both, sizes = np.unique(pairs, return_counts=True)
    shares = []
    for region in (both // columns, both % columns):
        largest = np.zeros(int(region.max()) + 1, np.int64)
        np.maximum.at(largest, region, sizes)
        shares.append(1 - largest.sum() / pairs.size)
    return float((actual != expected).mean()), float(max(shares))


def compare(images: list[np.ndarray], name: str, count: int, backend: str) -> dict[str, Any]:
    """One line of the table."""
    shares = []
    for picture in images:
        image, options = as_input(picture, name)
        expected = theirs(image, count, start_label=0, channel_axis=-1, **options)
        planes = np.moveaxis(image, -1, 0)[None]
        actual = fastseg.slic(planes, count, **options, backend=backend)[0]
        shares.append(differing(actual, expected))
    labels, regions = np.array(shares).T
    pixels = np.array([picture.shape[0] * picture.shape[1] for picture in images])
    return {
        "input": name,
        "superpixels": count,
        "pictures": len(images),
        "labels differing": float(np.average(labels, weights=pixels)),
        "of the worst picture": float(labels.max()),
        "pictures equal": int((labels == 0).sum()),
        "pixels in another region": float(np.average(regions, weights=pixels)),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.labels", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of {', '.join(SETS)}")
    parser.add_argument("--each", type=int, default=6, metavar="N", help="pictures of each set")
    parser.add_argument("--longest", type=int, metavar="PIXELS", help="shrink pictures to this")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, metavar="N")
    parser.add_argument("--backend", default="native")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write labels.csv there")
    options = parser.parse_args(arguments)
    if not any((options.data / name).is_dir() for name in SETS):
        print(f"{options.data} holds none of {', '.join(SETS)}", file=sys.stderr)
        return 2
    images = list(pictures(options.data, options.each, options.longest))
    lines, wrong = [], False
    print(f"{'input':<14}{'superpixels':>12}{'pictures':>10}{'differing':>12}{'worst':>12}"
          f"{'equal':>7}{'regions':>12}")  # fmt: skip
    for name, most in INPUTS.items():
        here = [compare(images, name, count, options.backend) for count in options.counts]
        for line in here:
            shares = [f"{v:12.3e}" for v in line.values() if isinstance(v, float)]
            print(f"{name:<14}{line['superpixels']:>12}{line['pictures']:>10}{shares[0]}{shares[1]}"
                  f"{line['pictures equal']:>7}{shares[2]}", flush=True)  # fmt: skip
        lines += here
        moved = float(np.mean([line["pixels in another region"] for line in here]))
        wrong |= most is not None and moved > most
    if options.out:
        about = machine.describe("cpu")
        write_csv([{**line, **about} for line in lines], [*lines[0], *about],
                  options.out / "labels.csv")  # fmt: skip
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
