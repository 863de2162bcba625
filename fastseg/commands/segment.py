"""`fastseg segment` and `fastseg demo`."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..backends import BackendUnavailable
from ..predict import Interrupted, MaskFolder, Report, Settings, segment
from ..predict.masks import MaskRow
from .common import (
    OK,
    SOME_FAILED,
    UsageError,
    add_run_options,
    number,
    sides,
    size,
    summary,
    table,
    whole,
)  # fmt: skip
from .evaluate import add_truth_values, print_scores

__all__ = ["add_to"]

# Photographs in scikit-image's wheel, without its drawings, text pages and plain textures.
SAMPLES = (
    "astronaut.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png",
    "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip


# Options that mean nothing with --model, and nothing without it.
OF_IEM = (
    "size", "init", "iterations", "backend", "truth", "truth_values", "lamb", "smoothing",
    "everywhere", "one_filter",
)  # fmt: skip
OF_MODELS = ("variant", "tile", "overlap", "device")


def add_to(commands: argparse._SubParsersAction) -> None:
    """The commands' arguments."""
    add = commands.add_parser("segment", help="write a foreground mask for each picture, or with "
        "--model a label map")  # fmt: skip
    add.add_argument("paths", nargs="+", metavar="PATH", help="file, folder or glob pattern")
    add.add_argument("-o", "--out", required=True, metavar="OUT", help="output folder")
    _add_options(add)
    model = add.add_argument_group("label maps by a trained method")
    model.add_argument("--model", metavar="RUN", help="folder of a run of `fastseg train`")
    model.add_argument(
        "--variant", metavar="V", help="which of its predictions (default: its first)"
    )
    model.add_argument("--tile", type=size, default=512, metavar="N|full",
        help="cut pictures into tiles of N pixels a side, so that memory does not grow with them "
        "(default: 512)")  # fmt: skip
    model.add_argument(
        "--overlap", type=whole, default=64, metavar="N", help="of tiles (default: 64)"
    )
    model.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add.set_defaults(run=_segment, default=add.get_default)

    add = commands.add_parser("demo", help="segment scikit-image's sample photographs")
    add.add_argument("paths", nargs="*", metavar="IMAGES", help="segment these too")
    add.add_argument("-o", "--out", default="demo", metavar="OUT", help="default: demo")
    _add_options(add)
    add.set_defaults(run=_demo)


def _add_options(add: argparse.ArgumentParser) -> None:
    add.add_argument("--size", type=size, default=128, metavar="N|full",
        help="work at N pixels on the shorter side; smaller pictures are not enlarged (default: "
        "128)")  # fmt: skip
    add.add_argument("--init", type=sides, default=(44, 78, 92), metavar="N,N",
        help="start from centred squares of these sides, in pixels of a picture whose shorter side "
        "is 128, and keep the best result (default: 44,78,92)")  # fmt: skip
    add.add_argument("--iterations", type=whole, default=150, metavar="N", help="default: 150")
    add.add_argument("--backend", default="auto", choices=("auto", "reference", "native", "cuda"),
        help="default: auto, the CPU's best")  # fmt: skip
    add.add_argument("--overlay", action="store_true",
        help="also write each picture with its background faded")  # fmt: skip
    add.add_argument("--no-sheet", dest="sheet", action="store_false",
        help="do not write the contact sheet, index.html")  # fmt: skip
    add_run_options(add)
    add.add_argument("--truth", metavar="DIR", help="score the masks against true ones")
    add_truth_values(add)
    ablations = add.add_argument_group("ablations of the method")
    ablations.add_argument("--lamb", type=number, default=0.001, metavar="L",
        help="weight of each layer's deviation from its mean colour (default: 0.001)")  # fmt: skip
    ablations.add_argument("--smoothing", choices=("authors", "paper", "none"), default="authors")
    ablations.add_argument("--everywhere", action="store_true",
        help="let every pixel change, not only those at the mask's boundary")  # fmt: skip
    ablations.add_argument("--one-filter", action="store_true",
        help="one 21-tap Gaussian, as in the paper, in place of two passes of 11")  # fmt: skip


def _segment(arguments: argparse.Namespace) -> int:
    strange = OF_IEM if arguments.model else OF_MODELS
    for name in strange:
        if getattr(arguments, name) != arguments.default(name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} cannot be used {'with' if arguments.model else 'without'} --model"
            )
    if arguments.model:
        return _segment_with_model(arguments)
    return _run(arguments, arguments.paths)[1]


def _segment_with_model(arguments: argparse.Namespace) -> int:
    from ..train import CheckpointError, ConfigError, restore
    from ..train.segment import ModelSettings, segment_with

    options = {name: getattr(arguments, name) for name in ("jobs", "overlay", "sheet", "force")}
    try:
        trained = restore(arguments.model, arguments.device)
        settings = ModelSettings(
            f"{trained.name} of {trained.folder} after {trained.position.step} steps "
            f"({trained.digest})",
            arguments.variant or trained.method.variants[0],
            trained.geometry,
            arguments.tile,
            arguments.overlap,
        )
        paths, out = arguments.paths, arguments.out
        report = segment_with(trained.method, paths, out, settings, **options, progress=True)
    except Interrupted as stop:
        _print_summary(stop.report, arguments)
        raise
    except (CheckpointError, ConfigError, ImportError, ValueError, OSError) as error:
        raise UsageError(error) from error
    _print_summary(report, arguments)
    return SOME_FAILED if report.failed else OK


def _demo(arguments: argparse.Namespace) -> int:
    samples = find_spec("skimage")
    if samples and samples.origin:
        folder = Path(samples.origin).parent / "data"
        paths = [str(folder / name) for name in SAMPLES if (folder / name).exists()]
    elif arguments.paths:
        paths = []
    else:
        raise UsageError("scikit-image, whose photographs demo segments, is not installed")
    rows, status = _run(arguments, paths + arguments.paths)
    lines: list[Sequence[str]] = [("file", "size", "foreground", "error", "steps", "seconds")]
    for row in rows:
        name = os.path.basename(row.file)
        if row.ok:
            numbers = f"{row.foreground:.1%} {row.error:.3f} {row.steps} {row.seconds:.3f}"
            lines.append((name, row.size, *numbers.split()))
        else:
            lines.append((name, row.size, "failed", "", "", ""))
    print(table(lines))
    return status


def _run(arguments: argparse.Namespace, paths: list[str]) -> tuple[list[MaskRow], int]:
    """Segment, print what came of it, and say with which status to exit."""
    taps, passes = (21, 1) if arguments.one_filter else (11, 2)
    settings = Settings(
        size=arguments.size,
        init=arguments.init,
        iterations=arguments.iterations,
        lamb=arguments.lamb,
        smoothing=arguments.smoothing,
        boundary_only=not arguments.everywhere,
        taps=taps,
        passes=passes,
        backend=arguments.backend,
    )
    options = {name: getattr(arguments, name) for name in ("jobs", "overlay", "sheet", "force")}
    try:
        truth = MaskFolder(arguments.truth, arguments.truth_values) if arguments.truth else None
        report = segment(paths, arguments.out, settings, **options, truth=truth, progress=True)
    except Interrupted as stop:
        _print_summary(stop.report, arguments)
        raise
    except (BackendUnavailable, ValueError, OSError) as error:
        raise UsageError(error) from error
    _print_summary(report, arguments)
    if truth is not None:
        print_scores([row.scores for row in report.rows], truth.values)
    return report.rows, SOME_FAILED if report.failed or report.unscored else OK


def _print_summary(report: Report, arguments: argparse.Namespace) -> None:
    folder = "labels" if getattr(arguments, "model", None) else "masks"
    where = Path(arguments.out, "index.html" if arguments.sheet else folder)
    print(f"{summary(report, 'segmented')}: {where}", file=sys.stderr)
