"""What commands share: exit statuses, kinds of arguments, tables."""

import argparse
from collections.abc import Sequence

from ..predict import Report

__all__ = [
    "BAD_USAGE", "INTERRUPTED", "OK", "SOME_FAILED", "UsageError", "add_run_options", "count",
    "number", "positive", "sides", "size", "summary", "table", "whole",
]  # fmt: skip

OK, SOME_FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


class UsageError(Exception):
    """The command cannot do what it was asked to; the message says why."""


def integer(text: str, minimum: int) -> int:
    if not text.isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"must be a whole number from {minimum}, got {text!r}")
    return int(text)


def whole(text: str) -> int:
    return integer(text, 0)


def count(text: str) -> int:
    return integer(text, 1)


def size(text: str) -> int | None:
    return None if text == "full" else count(text)


def sides(text: str) -> tuple[int, ...]:
    return tuple(count(part) for part in text.split(","))


def positive(text: str) -> float:
    value = number(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"must be greater than 0, got {text!r}")
    return value


def number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number from 0, got {text!r}")
    return value


def add_run_options(add: argparse.ArgumentParser) -> None:
    """What every command over pictures takes."""
    add.add_argument("--jobs", type=count, metavar="N",
        help="pictures in work at once (default: one for each CPU)")  # fmt: skip
    add.add_argument("--force", action="store_true", help="do again what is done")


def summary(report: Report, done_to: str) -> str:
    """What a run did, in a line: "3 pictures segmented in 1.2 s (2.5/s), 1 failed"."""
    done = len(report.rows) - len(report.failed) - report.kept
    rate = f" ({done / report.seconds:.1f}/s)" if done else ""
    parts = [f"{done} picture{'s' * (done != 1)} {done_to} in {report.seconds:.1f} s{rate}"]
    if report.kept:
        parts.append(f"{report.kept} were done")
    if report.failed:
        parts.append(f"{len(report.failed)} failed")
    return ", ".join(parts)


def table(lines: Sequence[Sequence[str]]) -> str:
    """Columns aligned, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
