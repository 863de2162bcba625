"""Many runs of one table: what `fastseg sweep` runs."""

import re
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..methods import METHODS
from ..predict.files import write
from ..predict.journal import csv_bytes
from .checkpoint import CHECKPOINT, load
from .config import ConfigError, TrainConfig, parse, read_yaml, to_flags
from .log import read_metrics
from .loop import TrainingError, train
from .score import BEST, LAST
from .tables import TABLES

__all__ = ["Sweep", "cells", "read_sweep", "run_sweep"]


@dataclass(frozen=True)
class Sweep:
    """What varies between the rows of a table."""

    method: str
    rows: Mapping[str, Mapping[str, Any]]
    """Label → options; also "method", "config", and "published": data set → accuracy, or one for
    each variant."""
    title: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  #: of all rows


def read_sweep(name: str) -> Sweep:
    """A table of a paper by its name, or the one in a YAML file.

    Raises:
        ConfigError: there is no such table, or the file holds something else.
    """
    if not name.endswith((".yaml", ".yml")):
        if name not in TABLES:
            raise ConfigError(
                f"no table {name!r}: there are {', '.join(TABLES)}, and files ending in .yaml"
            )
        return Sweep(**TABLES[name])
    try:
        sweep = Sweep(**read_yaml(name))
    except TypeError as error:
        raise ConfigError(f"{name} must hold method, rows, and maybe title and options") from error
    if not isinstance(sweep.rows, Mapping) or not isinstance(sweep.options, Mapping):
        raise ConfigError(f"{name}: `rows` and `options` must be of the form NAME: VALUE")
    return sweep


def run_sweep(
    sweep: Sweep, data: Sequence[str], out: str | Path, seeds: int, argv: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Run every row on every data set with every seed, but for what is done.

    OUT/table.csv and OUT/table.md get what is returned, OUT/runs.csv every run's scores, epoch by
    epoch, and from which commit and when. A run that fails is named on stderr; the others go on.

    Args:
        out: folder of the runs: OUT/DATA/ROW/SEED.
        seeds: how many, from 0.
        argv: further flags for all runs, which override those of the table. A flag that is of some
            rows' method alone is for these.

    Returns:
        A row of the table for each data set, row and variant: accuracies, and the mIoU of the last
        epoch, in percent, the mean over seeds and their standard deviation.

    Raises:
        ConfigError, ValueError: a run cannot begin.
        Stopped: Ctrl-C or SIGTERM; the same call goes on.
    """
    jobs = [
        _job(sweep, label, spec, seed, Path(out), argv)
        for spec in data
        for label in sweep.rows
        for seed in range(seeds)
    ]
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    runs: list[dict[str, Any]] = []
    for job in jobs:
        print(
            f"{job.label}, {job.spec}, seed {job.options.seed}: {job.options.out}", file=sys.stderr
        )
        try:
            folder = train(job.name, job.config, job.options)
        except TrainingError as error:
            print(f"failed: {error}", file=sys.stderr)
            continue
        lines = read_metrics(folder)
        runs += _epochs(job, lines, folder / CHECKPOINT)
        if "scores" in lines[-1]:
            found.setdefault((job.label, job.spec), []).append(lines[-1])
    table = []
    for (label, spec), lines in found.items():
        published = sweep.rows[label].get("published", {}).get(re.split("[:?]", spec)[0])
        table += _rows(label, spec, lines, published)
    write(Path(out, "table.csv"), csv_bytes(table))
    write(Path(out, "table.md"), _markdown(sweep.title, cells(table)).encode())
    write(Path(out, "runs.csv"), csv_bytes(runs))
    return table


def cells(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The table as words: a head, and a line for each of its rows."""

    def spread(row: Mapping[str, Any], which: str) -> str:
        sd = row[f"{which} s.d."]
        return f"{row[which]:.1f}" + ("" if sd is None else f" ± {sd:.1f}")

    heads = ("accuracy, percent", "data", "variant", LAST, BEST, "published", "mIoU", "seeds")
    lines: list[tuple[str, ...]] = [heads]
    for row in table:
        published = "" if row["published"] is None else f"{row['published']:.1f}"
        numbers = spread(row, LAST), spread(row, BEST), published, spread(row, "mIoU")
        lines.append((row["row"], row["data"], row["variant"], *numbers, str(row["seeds"])))
    return lines


def _markdown(title: str, lines: Sequence[tuple[str, ...]]) -> str:
    heads, *rest = (f"| {' | '.join(line)} |" for line in lines)
    rule = "| --- " * len(lines[0]) + "|"
    return "\n".join([*([f"# {title}", ""] if title else []), heads, rule, *rest, ""])


@dataclass(frozen=True)
class _Job:
    label: str
    spec: str
    name: str  #: of the method
    options: TrainConfig
    config: Any


def _job(sweep: Sweep, label: str, spec: str, seed: int, out: Path, argv: Sequence[str]) -> _Job:
    row = {**sweep.rows[label]}
    row.pop("published", None)
    name = row.pop("method", sweep.method)
    base = ["--config", row.pop("config")] if "config" in row else []
    if name not in METHODS:
        raise ConfigError(f"no method {name!r}: there are {', '.join(sorted(METHODS))}")
    kind = METHODS[name].Config
    argv = _without(argv, _others(sweep, name))
    own = sweep.options if name == sweep.method else {}
    flags = to_flags({**own, **row}, (TrainConfig, kind), f"row {label!r}")
    folder = out / _slug(spec) / _slug(label) / str(seed)
    place = ["--data", spec, "--out", str(folder), "--seed", str(seed)]
    cache = ["--cache", str(out / "superpixels")]
    return _Job(label, spec, name, *parse(name, kind, [*base, *flags, *cache, *argv, *place]))


def _others(sweep: Sweep, name: str) -> set[str]:
    """The options that other methods of the table have and this one has not."""
    methods = {row.get("method", sweep.method) for row in sweep.rows.values()} & METHODS.keys()
    options = {each: {f.name for f in fields(METHODS[each].Config)} for each in methods}
    return set().union(*options.values()) - options[name]


def _without(argv: Sequence[str], options: set[str]) -> list[str]:
    """The command line without these options and their values."""
    kept, keep = [], True
    for word in argv:
        if word.startswith("--"):
            option = word[2:].partition("=")[0].replace("-", "_")
            keep = not {option, option.removeprefix("no_")} & options
        kept += [word] if keep else []
    return kept


def _rows(
    label: str, spec: str, lines: Sequence[Mapping[str, Any]], published: Any
) -> list[dict[str, Any]]:
    rows = []
    for variant in lines[0]["scores"]:
        row: dict[str, Any] = {"data": spec, "row": label, "variant": variant}
        measures = {LAST: (LAST, "accuracy"), BEST: (BEST, "accuracy"), "mIoU": (LAST, "miou")}
        for name, (which, measure) in measures.items():
            found = [100 * line["scores"][variant][which][measure] for line in lines]
            row[name] = statistics.fmean(found)
            row[f"{name} s.d."] = statistics.stdev(found) if len(found) > 1 else None
        known = published.get(variant) if isinstance(published, Mapping) else published
        rows.append({**row, "seeds": len(lines), "published": known})
    return rows


def _epochs(
    job: _Job, lines: Sequence[Mapping[str, Any]], checkpoint: Path
) -> Iterator[dict[str, Any]]:
    """A row for each epoch and variant of a run, in percent."""
    commit = load(checkpoint).facts["versions"]["commit"]
    date = datetime.fromtimestamp(checkpoint.stat().st_mtime, timezone.utc).date().isoformat()
    for line in lines:
        for variant, found in line.get("scores", {}).items():
            yield {
                "data": job.spec,
                "row": job.label,
                "variant": variant,
                "seed": job.options.seed,
                "epoch": line["epoch"],
                "accuracy": round(100 * found[LAST]["accuracy"], 2),
                "mIoU": round(100 * found[LAST]["miou"], 2),
                "seconds": round(line["seconds"], 1),
                "commit": commit[:12],
                "date": date,
            }


def _slug(text: str) -> str:
    """The text as a file name."""
    return re.sub(r"[^\w.=-]+", "_", text).strip("_") or "_"
