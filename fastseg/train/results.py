"""What the runs of a table come to: its rows, ours beside what was published."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .score import BEST, LAST

__all__ = ["PERCENT", "cells", "markdown", "measured", "unmeasured"]

PERCENT = ("accuracy", "miou", "iou", "dice")  # "iou" and "dice" are of the last class, foreground
LOWEST = ("alpha2",)  # of these the lowest of all epochs was published


def measured(
    label: str,
    spec: str,
    measures: Sequence[str],
    published: Any,
    runs: Sequence[Sequence[Mapping[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """The rows of what one row of a table has come to on a data set.

    Args:
        published: a number, or one for each of the measures, or these for each variant, or None.
        runs: of each seed the lines of metrics.jsonl.
    """
    minutes = statistics.fmean(sum(line["seconds"] for line in lines) / 60 for lines in runs)
    for variant in runs[0][-1].get("scores", {"": {}}):
        for i, measure in enumerate(measures):
            values = [_values(lines, variant, measure) for lines in runs]
            if not all(values):
                continue
            best = min if measure in LOWEST else max
            known = _known(published, variant, i)
            row = _row(label, spec, variant, measure, known, len(runs), minutes)
            row |= _spread(LAST, [each[-1] for each in values])
            row |= _spread(BEST, [best(each) for each in values])
            mious = [_values(lines, variant, "miou")[-1:] for lines in runs]
            yield row | _spread("mIoU", [each[0] for each in mious if each])


def _row(
    label: str,
    spec: str,
    variant: str,
    measure: str,
    published: Any,
    seeds: int = 0,
    minutes: float | None = None,
) -> dict[str, Any]:
    row: dict[str, Any] = {"data": spec, "row": label, "variant": variant, "measure": measure}
    for name in (LAST, BEST, "mIoU"):
        row |= _spread(name, ())
    return {**row, "minutes": minutes, "seeds": seeds, "published": published}


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    return {
        name: statistics.fmean(values) if values else None,
        f"{name} s.d.": statistics.stdev(values) if len(values) > 1 else None,
    }


def _values(lines: Iterable[Mapping[str, Any]], variant: str, measure: str) -> list[float]:
    """Of a run's epochs, as far as they have been scored: in percent, or as the method measures."""
    if measure not in PERCENT:
        return [line["measures"][measure] for line in lines if measure in line.get("measures", {})]
    scores = (line.get("scores", {}).get(variant) for line in lines)
    return [100 * _score(found[LAST], measure) for found in scores if found]


def _score(found: Mapping[str, Any], measure: str) -> float:
    if measure in ("accuracy", "miou"):
        return found[measure]
    iou = found["iou"][-1] or 0.0
    return iou if measure == "iou" else 2 * iou / (1 + iou)


def _known(published: Any, variant: str, which: int) -> Any:
    """What was published of a variant's measure; None for nothing."""
    found = published.get(variant) if isinstance(published, Mapping) else published
    if isinstance(found, (list, tuple)):
        return found[which] if which < len(found) else None
    return None if which else found


def unmeasured(
    label: str, spec: str, measures: Sequence[str], published: Any
) -> Iterator[dict[str, Any]]:
    """The same of a data set that is not there: what was published alone."""
    if published is None:
        return
    for variant in published if isinstance(published, Mapping) else ("",):
        for i, measure in enumerate(measures):
            yield _row(label, spec, variant, measure, _known(published, variant, i))


def cells(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The table as words: a head, and a line for each of its rows."""
    heads = "row", "data", "variant", "measure", LAST, BEST, "published", "mIoU", "minutes", "seeds"
    lines: list[tuple[str, ...]] = [heads]
    for row in table:
        digits = ".1f" if row["measure"] in PERCENT else ".3g"
        numbers = (_words(row, name, digits) for name in (LAST, BEST, "published"))
        rest = (_words(row, name, ".1f") for name in ("mIoU", "minutes"))
        names = (row[name] for name in ("row", "data", "variant", "measure"))
        lines.append((*names, *numbers, *rest, str(row["seeds"])))
    return lines


def _words(row: Mapping[str, Any], which: str, digits: str) -> str:
    value, sd = row[which], row.get(f"{which} s.d.")
    if value is None:
        return ""
    return f"{value:{digits}}" + ("" if sd is None else f" ± {sd:{digits}}")


def markdown(title: str, lines: Sequence[tuple[str, ...]]) -> str:
    heads, *rest = (f"| {' | '.join(line)} |" for line in lines)
    rule = "| --- " * len(lines[0]) + "|"
    return "\n".join([*([f"# {title}", ""] if title else []), heads, rule, *rest, ""])
