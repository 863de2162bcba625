"""The command line: `fastseg segment | eval | doctor | demo`."""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from . import __version__, backends
from .predict import Interrupted, MaskFolder, Report, Settings, evaluate, mean_scores, segment
from .predict.files import write
from .predict.journal import csv_bytes
from .predict.masks import MaskRow
from .predict.truth import VALUES
from .predict.workers import cpu_count

__all__ = ["main"]

OK, SOME_FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130

# Photographs in scikit-image's wheel, without its drawings, text pages and plain textures.
SAMPLES = (
    "astronaut.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png",
    "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip


class UsageError(Exception):
    """The command cannot do what it was asked to; the message says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0: all well; 1: some files failed; 2: bad usage; 130: stopped by Ctrl-C or SIGTERM.
    """
    arguments = _parser().parse_args(argv)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return arguments.run(arguments)
    except UsageError as error:
        print(f"fastseg: {error}", file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt as stop:
        print("fastseg: interrupted", file=sys.stderr)
        if getattr(stop, "abandoned", 0):
            # Threads in the midst of a kernel cannot be ended otherwise.
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


# --- arguments ---------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("fastseg", description="Unsupervised image segmentation.")
    parser.add_argument("--version", action="version", version=f"fastseg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = commands.add_parser("segment", help="write a foreground mask for each picture")
    add.add_argument("paths", nargs="+", metavar="PATH", help="file, folder or glob pattern")
    add.add_argument("-o", "--out", required=True, metavar="OUT", help="output folder")
    _add_segment_options(add)
    add.set_defaults(run=_segment)

    add = commands.add_parser("demo", help="segment scikit-image's sample photographs")
    add.add_argument("paths", nargs="*", metavar="IMAGES", help="segment these too")
    add.add_argument("-o", "--out", default="demo", metavar="OUT", help="default: demo")
    _add_segment_options(add)
    add.set_defaults(run=_demo)

    add = commands.add_parser("eval", help="score results")
    kinds = add.add_subparsers(required=True, metavar="WHAT")
    add = kinds.add_parser("masks", help="score foreground masks against true ones")
    add.add_argument("--pred", required=True, metavar="DIR", help="predicted masks, or OUT itself")
    add.add_argument("--truth", required=True, metavar="DIR", help="true masks of the same names")
    add.add_argument("-o", "--out", metavar="CSV", help="write the scores of each image")
    add.add_argument("--jobs", type=_count, metavar="N", help="default: one for each CPU")
    _add_truth_values(add)
    add.set_defaults(run=_eval_masks)

    add = commands.add_parser("doctor", help="say what can run here, and why the rest cannot")
    add.set_defaults(run=_doctor)
    return parser


def _add_segment_options(add: argparse.ArgumentParser) -> None:
    add.add_argument("--size", type=_size, default=128, metavar="N|full",
        help="work at N pixels on the shorter side; smaller pictures are not enlarged (default: "
        "128)")  # fmt: skip
    add.add_argument("--init", type=_sides, default=(44, 78, 92), metavar="N,N",
        help="start from centred squares of these sides, in pixels of a picture whose shorter side "
        "is 128, and keep the best result (default: 44,78,92)")  # fmt: skip
    add.add_argument("--iterations", type=_whole, default=150, metavar="N", help="default: 150")
    add.add_argument("--backend", default="auto", choices=("auto", "reference", "native", "cuda"),
        help="default: auto, the CPU's best")  # fmt: skip
    add.add_argument("--jobs", type=_count, metavar="N",
        help="pictures in work at once (default: one for each CPU)")  # fmt: skip
    add.add_argument("--overlay", action="store_true",
        help="also write each picture with its background faded")  # fmt: skip
    add.add_argument("--no-sheet", dest="sheet", action="store_false",
        help="do not write the contact sheet, index.html")  # fmt: skip
    add.add_argument("--force", action="store_true", help="do again what is done")
    add.add_argument("--truth", metavar="DIR", help="score the masks against true ones")
    _add_truth_values(add)
    ablations = add.add_argument_group("ablations of the method")
    ablations.add_argument("--lamb", type=_number, default=0.001, metavar="L",
        help="weight of each layer's deviation from its mean colour (default: 0.001)")  # fmt: skip
    ablations.add_argument("--smoothing", choices=("authors", "paper", "none"), default="authors")
    ablations.add_argument("--everywhere", action="store_true",
        help="let every pixel change, not only those at the mask's boundary")  # fmt: skip
    ablations.add_argument("--one-filter", action="store_true",
        help="one 21-tap Gaussian, as in the paper, in place of two passes of 11")  # fmt: skip


def _add_truth_values(add: argparse.ArgumentParser) -> None:
    add.add_argument("--truth-values", choices=("auto", "index", "grey"), default="auto",
        help="index: 0 background, 1 foreground, 255 void. grey: foreground from 128 on. auto: "
        "index if a file in the folder holds 1 and none but 0, 1, 255, else grey")  # fmt: skip


def _integer(text: str, minimum: int) -> int:
    if not text.isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"must be a whole number from {minimum}, got {text!r}")
    return int(text)


def _whole(text: str) -> int:
    return _integer(text, 0)


def _count(text: str) -> int:
    return _integer(text, 1)


def _size(text: str) -> int | None:
    return None if text == "full" else _count(text)


def _sides(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number from 0, got {text!r}")
    return value


# --- commands ----------------------------------------------------------------------------------


def _segment(arguments: argparse.Namespace) -> int:
    return _run(arguments, arguments.paths)[1]


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
    print(_table(lines))
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
    except (backends.BackendUnavailable, ValueError, OSError) as error:
        raise UsageError(error) from error
    _print_summary(report, arguments)
    if truth is not None:
        _print_scores([row.scores for row in report.rows], truth.values)
    return report.rows, SOME_FAILED if report.failed or report.unscored else OK


def _print_summary(report: Report, arguments: argparse.Namespace) -> None:
    done = len(report.rows) - len(report.failed) - report.kept
    rate = f" ({done / report.seconds:.1f}/s)" if done else ""
    parts = [f"{done} picture{'s' * (done != 1)} segmented in {report.seconds:.1f} s{rate}"]
    if report.kept:
        parts.append(f"{report.kept} were done")
    if report.failed:
        parts.append(f"{len(report.failed)} failed")
    where = Path(arguments.out, "index.html" if arguments.sheet else "masks")
    print(f"{', '.join(parts)}: {where}", file=sys.stderr)


def _eval_masks(arguments: argparse.Namespace) -> int:
    try:
        pred = MaskFolder(arguments.pred)
        truth = MaskFolder(arguments.truth, arguments.truth_values)
        rows = evaluate(pred, truth, arguments.jobs, progress=True)
        if arguments.out:
            write(Path(arguments.out), csv_bytes(rows))
    except (ValueError, OSError) as error:
        raise UsageError(error) from error
    failed = [row for row in rows if row["note"]]
    for row in failed:
        print(f"{row['file']}: {row['note']}", file=sys.stderr)
    scores = [{k: v for k, v in row.items() if isinstance(v, float)} for row in rows]
    _print_scores(scores, truth.values)
    return SOME_FAILED if failed else OK


def _print_scores(scores: Sequence[Mapping[str, float]], values: str) -> None:
    means = mean_scores(scores)
    print(f"Truth masks: {VALUES[values]} (--truth-values {values}).")
    if not means:
        print("No mask could be scored.")
        return
    names = ("accuracy", "iou", "miou", "dice")
    print(
        _table(
            [
                (f"mean of {sum(map(bool, scores))}, percent", "accuracy", "IoU", "mIoU", "DICE"),
                ("honest", *(f"{100 * means[name]:.2f}" for name in names)),
                ("oracle polarity", *(f"{100 * means[f'oracle_{name}']:.2f}" for name in names)),
            ]
        )
    )


def _doctor(arguments: argparse.Namespace) -> int:
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    print(f"fastseg {__version__}")
    print(f"Python {platform.python_version()}, {platform.platform()}, {cpu_count()} CPUs")
    print(f"PyTorch {torch.__version__}, {cuda}\n")
    missing = backends.why_not("native")
    if missing is None:
        from . import _native

        print(f"The extension is built and runs {_native.isa()} code here.\n")
    else:
        print(f"The extension is MISSING: {missing}.")
        print("Everything on the CPU runs on the reference, some hundred times slower. To have it,")
        print("install a C++ compiler, then fastseg again.\n")
    print(backends.report() + "\n")
    for package in ("triton", "cupy-cuda12x", "cupy-cuda13x", "numba", "scikit-image"):
        try:
            print(f"{package:<20}{version(package)}")
        except PackageNotFoundError:
            print(f"{package:<20}not installed")
    return OK


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Columns aligned, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
