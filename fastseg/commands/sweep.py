"""`fastseg sweep`: all runs of a table."""

import argparse
import sys

from .common import INTERRUPTED, OK, SOME_FAILED, UsageError, count, table

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    add = commands.add_parser("sweep", help="run all rows of a paper's table, with several seeds")
    add.add_argument("table", metavar="TABLE", help="such as inmars-table3, or a YAML file; "
        "`TABLE --help` lists the options")  # fmt: skip
    add.add_argument("options", nargs=argparse.REMAINDER, metavar="…", help="its options")
    add.set_defaults(run=_sweep)


def _own(name: str) -> argparse.ArgumentParser:
    own = argparse.ArgumentParser(
        f"fastseg sweep {name}",
        description="Run every row with every seed, but for what is done, and print the table. "
        "Further options are those of `fastseg train`, for all rows.",
        allow_abbrev=False,
    )
    own.add_argument("--data", required=True, action="append", metavar="SPEC",
        help="data set; several times for several")  # fmt: skip
    own.add_argument("--out", required=True, metavar="DIR", help="folder of the runs")
    own.add_argument("--seeds", type=count, default=3, metavar="N", help="default: 3")
    return own


def _sweep(arguments: argparse.Namespace) -> int:
    from ..train import CheckpointError, ConfigError, MissingExtra, Stopped
    from ..train.sweep import cells, read_sweep, run_sweep

    own, further = _own(arguments.table).parse_known_args(arguments.options)
    try:
        sweep = read_sweep(arguments.table)
        rows = run_sweep(sweep, own.data, own.out, own.seeds, further)
    except Stopped as stop:
        print(f"fastseg: {stop}", file=sys.stderr)
        return INTERRUPTED
    except (CheckpointError, ConfigError, MissingExtra, ValueError, OSError) as error:
        raise UsageError(error) from error
    print(sweep.title or arguments.table)
    print(table(cells(rows)))
    whole = len(own.data) * len(sweep.rows)
    done = {(row["data"], row["row"]) for row in rows if row["seeds"] == own.seeds}
    return OK if len(done) == whole else SOME_FAILED
