"""`fastseg superpixels`."""

import argparse
import sys
from pathlib import Path

from ..backends import BackendUnavailable
from ..predict import Interrupted, SlicSettings, superpixels
from .common import OK, SOME_FAILED, UsageError, add_run_options, count, number, positive, summary

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    add = commands.add_parser("superpixels", help="cut each picture into superpixels by SLIC")
    add.add_argument("paths", nargs="+", metavar="PATH", help="file, folder or glob pattern")
    add.add_argument("-o", "--out", required=True, metavar="OUT", help="output folder")
    add.add_argument("--segments", type=count, default=100, metavar="N",
        help="about how many superpixels a picture gets (default: 100)")  # fmt: skip
    add.add_argument("--compactness", type=positive, default=10.0, metavar="C",
        help="how much position counts against colour (default: 10)")  # fmt: skip
    add.add_argument("--iterations", type=count, default=10, metavar="N", help="default: 10")
    add.add_argument("--sigma", type=number, default=0.0, metavar="S",
        help="standard deviation in pixels of a blur beforehand (default: 0)")  # fmt: skip
    add.add_argument("--zero", action="store_true",
        help="SLIC-zero: weigh colours by how far they spread in each superpixel")  # fmt: skip
    add.add_argument("--format", choices=("png", "npy"), default="png",
        help="of the labels: 16-bit PNG, of up to 65,536, or NPY (default: png)")  # fmt: skip
    add.add_argument("--no-boundaries", dest="boundaries", action="store_false",
        help="do not draw the boundaries")  # fmt: skip
    add.add_argument("--backend", default="auto", choices=("auto", "reference", "native"))
    add_run_options(add)
    add.set_defaults(run=_superpixels)


def _superpixels(arguments: argparse.Namespace) -> int:
    settings = SlicSettings(
        n_segments=arguments.segments,
        compactness=arguments.compactness,
        max_num_iter=arguments.iterations,
        sigma=arguments.sigma,
        slic_zero=arguments.zero,
        backend=arguments.backend,
    )
    options = {name: getattr(arguments, name) for name in ("boundaries", "jobs", "force")}
    where = Path(arguments.out, "labels")
    try:
        report = superpixels(
            arguments.paths,
            arguments.out,
            settings,
            suffix=f".{arguments.format}",
            **options,
            progress=True,
        )
    except Interrupted as stop:
        print(f"{summary(stop.report, 'cut')}: {where}", file=sys.stderr)
        raise
    except (BackendUnavailable, ValueError, OSError) as error:
        raise UsageError(error) from error
    print(f"{summary(report, 'cut')}: {where}", file=sys.stderr)
    return SOME_FAILED if report.failed else OK
