"""`fastseg data`: from archives as they come to what the data sets read."""

import argparse
import itertools
import sys
import time
from pathlib import Path

from tqdm import tqdm

from ..data.base import DataError
from ..data.lsun_car import export
from ..data.potsdam import Raw, find_raw, prepare
from ..predict.files import write
from ..predict.workers import cpu_count, work
from .common import OK, SOME_FAILED, UsageError, count

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    add = commands.add_parser("data", help="prepare a data set whose archive needs it")
    sets = add.add_subparsers(required=True, metavar="SET")
    add = sets.add_parser("potsdam", help="cut ISPRS Potsdam into tiles of 200 pixels a side")
    add.add_argument("raw", metavar="RAW", help="folder with the archives' TIFF files below it")
    add.add_argument("out", metavar="OUT", help="the data set: potsdam-3:OUT, potsdam-6:OUT")
    add.add_argument("--jobs", type=count, metavar="N",
        help="pictures in work at once, each 0.4 GB (default: one for each CPU)")  # fmt: skip
    add.add_argument("--force", action="store_true", help="do again what is done")
    add.add_argument("--unknown-void", action="store_true",
        help="take pixels whose colour is of no class for unlabelled")  # fmt: skip
    add.set_defaults(run=_potsdam)

    add = sets.add_parser("lsun-car", help="take the pictures out of LSUN's database")
    add.add_argument("database", metavar="LMDB", help="folder with data.mdb in it")
    add.add_argument("out", metavar="OUT", help="the data set: lsun-car:OUT")
    add.add_argument("--count", type=count, metavar="N", help="only the first N")
    add.set_defaults(run=_lsun_car)


def _potsdam(arguments: argparse.Namespace) -> int:
    start, out = time.perf_counter(), Path(arguments.out)
    try:
        pictures = find_raw(arguments.raw)
    except DataError as error:
        raise UsageError(error) from error
    todo = [raw for raw in pictures if arguments.force or not _is_done(raw, out)]
    failed = []

    def cut(raw: Raw) -> list[bytes] | str:
        try:
            return prepare(raw, arguments.unknown_void)
        except (DataError, MemoryError) as error:
            return str(error) or f"{raw.image}: not enough memory, try --jobs 1"

    def save(raw: Raw, contents: list[bytes] | str) -> None:
        if isinstance(contents, str):
            failed.append(raw)
            tqdm.write(contents, file=sys.stderr)
            return
        for path, content in zip(raw.outputs(out), contents, strict=True):
            write(path, content)

    try:
        work(cut, todo, save, arguments.jobs or cpu_count(), "pictures", progress=True)
    except OSError as error:
        raise UsageError(error) from error
    finally:
        done = sum(_is_done(raw, out) for raw in pictures)
        print(
            f"{done} of {len(pictures)} pictures are in {out}, {len(pictures) - len(todo)} were "
            f"before, {len(failed)} failed: {time.perf_counter() - start:.1f} s",
            file=sys.stderr,
        )
    return SOME_FAILED if failed else OK


def _is_done(raw: Raw, out: Path) -> bool:
    return all(path.exists() for path in raw.outputs(out))


def _lsun_car(arguments: argparse.Namespace) -> int:
    images, done = Path(arguments.out, "images"), 0
    try:
        pictures = itertools.islice(export(arguments.database), arguments.count)
        quiet = not sys.stderr.isatty()
        for name, content in tqdm(
            pictures, total=arguments.count, unit=" pictures", disable=quiet, leave=False
        ):
            path = images / f"{name}.webp"
            if not path.exists():
                write(path, content)
            done += 1
    except (DataError, OSError) as error:
        raise UsageError(error) from error
    finally:
        print(f"{done} pictures are in {images}", file=sys.stderr)
    return OK
