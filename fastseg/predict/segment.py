"""Segment pictures by IEM, each by itself, into a folder that remembers what is done."""

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from .files import JOURNAL, OUTPUTS, Source, find_pictures, name_outputs, readable, write
from .journal import Journal, Row, csv_bytes
from .pictures import PictureError, pillow_settings
from .sheet import write_sheet
from .task import Job, Settings, Task
from .truth import MaskFolder, mean_scores, read_mask, score
from .workers import cpu_count, work

__all__ = ["Interrupted", "Report", "segment"]


@dataclass
class Report:
    """What a run did."""

    rows: list[Row]  #: of the pictures asked for, in order, as far as the run came
    kept: int  #: rows that an earlier run had left
    seconds: float
    unscored: int = 0  #: masks without a true one that fits

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if not row.ok]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came, the results so far are written; `abandoned` pictures are still in work."""

    def __init__(self, report: Report, abandoned: int) -> None:
        super().__init__()
        self.report, self.abandoned = report, abandoned


def segment(
    paths: Iterable[str],
    out: str | Path,
    settings: Settings | None = None,
    *,
    jobs: int | None = None,
    overlay: bool = False,
    sheet: bool = True,
    force: bool = False,
    truth: MaskFolder | None = None,
    progress: bool = False,
) -> Report:
    """Write the foreground mask of every picture, results.csv and a contact sheet into `out`.

    A picture that cannot be segmented is reported in its row, and the others go on. What an earlier
    run has left in `out` stays, and stays listed, until its mask is gone.

    Args:
        paths: files, folders and glob patterns: see `find_pictures`.
        out: output folder. masks/ mirrors the folders that the pictures were found in.
        jobs: pictures in work at once; None: one for each CPU.
        overlay: also write overlays/….jpg, each picture with its background faded.
        sheet: write index.html and its small pictures.
        force: do again what an earlier run has done from the same file with the same settings.
        truth: true masks to score against, under the pictures' names.
        progress: draw a bar if stderr is a terminal, and name there what fails.

    Raises:
        ValueError: no picture, or `out/masks` is not of an earlier run.
        BackendUnavailable: the named backend cannot run here.
        Interrupted: Ctrl-C; what is done has been written.
    """
    start = time.perf_counter()
    out, jobs = Path(out), jobs or cpu_count()
    settings = (settings or Settings()).resolved()
    sources = _sources(paths, out)
    task = Task(out, settings, overlay, sheet)
    journal = Journal(out)
    rows, todo = _plan(sources, journal, task, force)
    report = Report([], kept=len(rows), seconds=0.0)
    journal.start()

    def record(job: Job, row: Row) -> None:
        rows[job.key] = row
        if row.ok:
            journal.add(job.key, job.made_from, row)
        elif progress:
            tqdm.write(f"{row.file}: {row.note}", file=sys.stderr)

    stopped: KeyboardInterrupt | None = None
    try:
        with pillow_settings():
            work(task, todo, record, jobs, "pictures", progress)
            if truth is not None:
                report.unscored = _score(truth, task, sources, rows, jobs, progress)
    except KeyboardInterrupt as interrupt:
        task.closed.set()
        stopped = interrupt
    report.rows = [rows[source.key] for source in sources if source.key in rows]
    report.seconds = time.perf_counter() - start
    try:
        _write_tables(rows, journal, task)
    except KeyboardInterrupt as interrupt:
        stopped = interrupt
        _write_tables(rows, journal, task)  # a second Ctrl-C does end it
    if stopped is not None:
        raise Interrupted(report, getattr(stopped, "abandoned", 0)) from None
    return report


def _sources(paths: Iterable[str], out: Path) -> list[Source]:
    paths = list(paths)
    sources = find_pictures(paths, str(out))
    if not any(os.path.exists(source.path) for source in sources):
        raise ValueError(f"no pictures in {', '.join(map(readable, paths)) or 'nothing'}")
    # Neither a data set's own masks/ nor someone's index.html may be overwritten.
    if not (out / JOURNAL).exists():
        for name in (*OUTPUTS, "index.html", "results.csv"):
            if (out / name).exists():
                raise ValueError(
                    f"{readable(str(out / name))} is not of an earlier run: choose another folder"
                )
    return sources


def _plan(
    sources: Sequence[Source], journal: Journal, task: Task, force: bool
) -> tuple[dict[str, Row], list[Job]]:
    """The rows, by source, that an earlier run has left, and what there is to do."""
    stems = name_outputs(sources, {key: row.stem for key, row in journal.rows.items()})
    digest = task.settings.digest()
    rows, todo = {}, []
    for source in sources:
        made_from = f"{digest} {_stamp(source.path)}"
        row = None if force else journal.find(source.key, made_from)
        if row is not None and all(path.exists() for path in task.outputs(row.stem)):
            rows[source.key] = row
            row.file = readable(source.path)
        else:
            todo.append(Job(source.path, source.key, stems[source.key], made_from))
    return rows, todo


def _stamp(path: str) -> str:
    """What changes when a file does."""
    try:
        stat = os.stat(path)
    except OSError:
        return "missing"
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _score(
    truth: MaskFolder,
    task: Task,
    sources: Sequence[Source],
    rows: Mapping[str, Row],
    jobs: int,
    progress: bool,
) -> int:
    """Fill in the rows' scores; how many masks have none."""
    truth.settle()
    failures = []

    def one(source: Source) -> dict[str, float] | str:
        try:
            mask, _ = read_mask(str(task.outputs(rows[source.key].stem)[0]), "grey")
            return score(mask, *truth.read(source.stem))
        except PictureError as error:
            return str(error)

    def record(source: Source, result: dict[str, float] | str) -> None:
        row = rows[source.key]
        if isinstance(result, dict):
            row.scores = result
            return
        failures.append(source)
        row.note = "; ".join(filter(None, (row.note, f"not scored: {result}")))
        if progress:
            tqdm.write(f"{row.file}: not scored: {result}", file=sys.stderr)

    done = [source for source in sources if rows[source.key].ok]
    work(one, done, record, jobs, "masks", progress)
    return len(failures)


def _write_tables(rows: Mapping[str, Row], journal: Journal, task: Task) -> None:
    """results.csv and the contact sheet, of this run and of what earlier ones have left."""
    every = {
        key: row
        for key, row in journal.rows.items()
        if key in rows or task.outputs(row.stem)[0].exists()
    }
    listed = sorted({**every, **rows}.items(), key=lambda item: (item[1].file, item[0]))
    write(task.out / "results.csv", csv_bytes(row.cells() for _, row in listed))
    if task.sheet:
        shown = [(key, row) for key, row in listed if not row.ok or task.in_sheet(row.stem)]
        write_sheet(task.out, shown, [_summary([row for _, row in listed]), task.settings.text()])


def _summary(rows: Sequence[Row]) -> str:
    done = [row for row in rows if row.ok]
    text = f"{len(done)} picture{'s' * (len(done) != 1)}"
    if len(done) < len(rows):
        text += f", {len(rows) - len(done)} failed"
    if means := mean_scores(row.scores for row in done):
        text += f", mean IoU {means['iou']:.1%} (oracle polarity {means['oracle_iou']:.1%})"
    return text
