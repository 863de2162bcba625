"""Many runs of one table: what `fastseg reproduce` runs."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..data import DataError, open_dataset
from ..data.catalogue import DRAWN
from ..methods import METHODS
from ..predict.files import write
from ..predict.journal import csv_bytes
from .checkpoint import CHECKPOINT, load
from .config import ConfigError, TrainConfig, parse, read_yaml, to_flags
from .log import read_metrics
from .loop import TrainingError, train
from .results import cells, markdown, measured, unmeasured
from .score import LAST
from .tables import TABLES

__all__ = ["Sweep", "absent", "at_hand", "read_sweep", "run_sweep", "unrun"]


@dataclass(frozen=True)
class Sweep:
    """What varies between the rows of a table."""

    method: str
    rows: Mapping[str, Mapping[str, Any]]
    """Label → options; also "method", "config", and "published": data set → number, or one for each
    of `measures`, or these for each variant."""
    title: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  #: of all rows of `method`
    measures: Sequence[str] = ("accuracy",)  #: of `results.PERCENT`, or a method's own

    @property
    def published(self) -> list[str]:
        """The data sets that there are published numbers of."""
        names = (name for row in self.rows.values() for name in row.get("published", {}))
        return list(dict.fromkeys(names))

    def known(self, label: str, spec: str) -> Any:
        """What was published of a row on a data set; None for nothing."""
        return self.rows[label].get("published", {}).get(_name(spec))


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
        raise ConfigError(
            f"{name} must hold method, rows, and maybe title, options and measures"
        ) from error
    if not isinstance(sweep.rows, Mapping) or not isinstance(sweep.options, Mapping):
        raise ConfigError(f"{name}: `rows` and `options` must be of the form NAME: VALUE")
    if isinstance(sweep.measures, str):
        raise ConfigError(f"{name}: `measures` must be a list, got {sweep.measures!r}")
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
        A row of the table for each data set, row, variant and measure: of the last epoch and of the
        best one, and the mIoU of the last, in percent, the mean over seeds and their standard
        deviation; the minutes that a run took to train.

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
    found: dict[tuple[str, str], list[list[dict[str, Any]]]] = {}
    runs: list[dict[str, Any]] = []
    broken: set[str] = set()
    for job in jobs:
        if job.spec in broken:
            continue
        print(
            f"{job.label}, {job.spec}, seed {job.options.seed}: {job.options.out}", file=sys.stderr
        )
        try:
            folder = train(job.name, job.config, job.options)
        except DataError as error:
            print(f"not there: {job.spec}. {error}", file=sys.stderr)
            broken.add(job.spec)
            continue
        except TrainingError as error:
            print(f"failed: {error}", file=sys.stderr)
            continue
        lines = read_metrics(folder)
        runs += _epochs(job, lines, folder / CHECKPOINT)
        found.setdefault((job.label, job.spec), []).append(lines)
    table = [
        row
        for (label, spec), of in found.items()
        for row in measured(label, spec, sweep.measures, sweep.known(label, spec), of)
    ]
    if jobs:
        write(Path(out, "table.csv"), csv_bytes(table))
        write(Path(out, "table.md"), markdown(sweep.title, cells(table)).encode())
        write(Path(out, "runs.csv"), csv_bytes(runs))
    return table


def at_hand(sweep: Sweep) -> list[str]:
    """The data sets of a table that need no path: those that are drawn.

    Raises:
        ConfigError: the table has no data sets of its own.
    """
    if not sweep.published:
        raise ConfigError("`--data` must be given: nothing is published of this table's data")
    return [name for name in sweep.published if name == DRAWN]


def absent(sweep: Sweep, data: Sequence[str]) -> dict[str, str]:
    """The table's data sets that are not among `data`, and what each needs; none if `data` has
    others than the table."""
    given = {_name(spec) for spec in data}
    if not given <= set(sweep.published):
        return {}
    return {name: _needs(name) for name in sweep.published if name not in given}


def unrun(sweep: Sweep, names: Iterable[str]) -> list[dict[str, Any]]:
    """Rows of the table with what was published of these data sets."""
    return [
        found
        for name in names
        for label in sweep.rows
        for found in unmeasured(label, name, sweep.measures, sweep.known(label, name))
    ]


def _needs(name: str) -> str:
    how = f"Say --data {name}" + ("" if name == DRAWN else ":ROOT")
    try:
        open_dataset(name if name == DRAWN else f"{name}:ROOT")
    except DataError as error:
        return f"{how}. {error}"
    return how


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


def _name(spec: str) -> str:
    """Of the data set."""
    return re.split("[:?]", spec)[0]


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
