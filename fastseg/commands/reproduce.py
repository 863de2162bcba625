"""`fastseg reproduce`, or `fastseg sweep`: all runs of a table, a paper's or one's own."""

import argparse
import sys

from .common import INTERRUPTED, OK, SOME_FAILED, UsageError, count, table

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    add = commands.add_parser("reproduce", aliases=["sweep"],
        help="run all rows of a paper's table, or of your own, with several seeds")  # fmt: skip
    add.add_argument("table", metavar="TABLE", help="such as inmars-table3, or a YAML file; "
        "`TABLE --help` lists the options")  # fmt: skip
    add.add_argument("options", nargs=argparse.REMAINDER, metavar="…", help="its options")
    add.set_defaults(run=_reproduce)


def _own(name: str) -> argparse.ArgumentParser:
    own = argparse.ArgumentParser(
        f"fastseg reproduce {name}",
        description="Run every row with every seed, but for what is done, and print the table "
        "beside what was published. Further options are those of `fastseg train`, for all rows.",
        allow_abbrev=False,
    )
    own.add_argument("--data", default=[], action="append", metavar="SPEC",
        help="data set; several times for several; default: those that need no path")  # fmt: skip
    own.add_argument("--out", metavar="DIR", help="folder of the runs; default: runs/TABLE")
    own.add_argument("--seeds", type=count, default=3, metavar="N", help="default: 3")
    return own


def _reproduce(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from ..train import CheckpointError, ConfigError, Stopped
    from ..train.results import cells
    from ..train.sweep import absent, at_hand, read_sweep, run_sweep, unrun

    own, further = _own(arguments.table).parse_known_args(arguments.options)
    out = own.out or Path("runs", Path(arguments.table).stem)
    try:
        sweep = read_sweep(arguments.table)
        data = own.data or at_hand(sweep)
        rows = run_sweep(sweep, data, out, own.seeds, further)
    except Stopped as stop:
        print(f"fastseg: {stop}", file=sys.stderr)
        return INTERRUPTED
    except (CheckpointError, ConfigError, ImportError, ValueError, OSError) as error:
        raise UsageError(error) from error
    missing = absent(sweep, data)
    for name, help in missing.items():
        print(f"not there: {name}. {help}", file=sys.stderr)
    print(sweep.title or arguments.table)
    print(table(cells([*rows, *unrun(sweep, missing)])))
    whole = len(data) * len(sweep.rows)
    done = {(row["data"], row["row"]) for row in rows if row["seeds"] == own.seeds}
    return OK if len(done) == whole and not missing else SOME_FAILED
