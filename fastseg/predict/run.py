"""A run over pictures, each by itself, into a folder that remembers what is done."""

import hashlib
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Generic

from tqdm import tqdm

from .files import Source, find_pictures, name_outputs, readable, write
from .journal import AnyRow, Journal, Row, csv_bytes
from .pictures import PictureError, pillow_settings
from .workers import cpu_count, work

__all__ = ["Interrupted", "Job", "Report", "Run", "Task"]


@dataclass(frozen=True, slots=True)
class Job:
    """A picture to work on."""

    path: str
    key: str  #: absolute path
    stem: str  #: the name of its results
    made_from: str  #: for the journal


@dataclass(frozen=True)
class Task(ABC, Generic[AnyRow]):
    """What to write for each picture, and how; called on threads."""

    out: Path
    settings: Any  #: what decides the results; its repr tells it from others
    closed: Event = field(default_factory=Event, kw_only=True)  #: set: write nothing any more

    row: ClassVar[type[Row]]
    journal: ClassVar[str]  #: file in `out` that remembers what is done
    table: ClassVar[str]  #: CSV in `out`
    ours: ClassVar[tuple[str, ...]]  #: further names in `out` that hold results

    @abstractmethod
    def outputs(self, stem: str) -> list[Path]:
        """The files of the picture whose results are called `stem`, the main one first."""

    @abstractmethod
    def contents(self, path: str, row: AnyRow) -> list[bytes]:
        """What these files hold for the picture at `path`; fills in its row."""

    def __call__(self, job: Job) -> Any:
        """The row of one picture. Whatever goes wrong is in its note."""
        start = time.perf_counter()
        row = self.row(readable(job.path), job.stem)
        try:
            contents = self.contents(job.path, row)  # type: ignore[arg-type]
            if self.closed.is_set():
                raise PictureError("interrupted")
            for output, content in zip(self.outputs(row.stem), contents, strict=True):
                write(output, content)
        except PictureError as error:
            failure = str(error)
        except OSError as error:
            failure = f"cannot be written: {error.strerror or error}"
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        else:
            failure = ""
        if failure:
            row = self.row(row.file, row.stem, row.width, row.height, note=failure)
        row.seconds = time.perf_counter() - start
        return row


@dataclass
class Report(Generic[AnyRow]):
    """What a run did."""

    rows: list[AnyRow]  #: of the pictures asked for, in order, as far as the run came
    kept: int  #: rows that an earlier run had left
    seconds: float
    unscored: int = 0  #: masks without a true one that fits

    @property
    def failed(self) -> list[AnyRow]:
        return [row for row in self.rows if not row.ok]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came, the results so far are written; `abandoned` pictures are still in work."""

    def __init__(self, report: Report, abandoned: int) -> None:
        super().__init__()
        self.report, self.abandoned = report, abandoned


class Run(Generic[AnyRow]):
    """Pictures, what an earlier run with the same settings has left of them, and what is to do.

    Raises:
        ValueError: no picture, or something in the output folder is not of an earlier run.
    """

    def __init__(self, paths: Iterable[str], task: Task[AnyRow], force: bool) -> None:
        self.start = time.perf_counter()
        self.task = task
        self.sources = _sources(paths, task)
        self.journal: Journal[AnyRow] = Journal(task.out / task.journal, task.row)  # type: ignore
        self.rows: dict[str, AnyRow] = {}
        self.todo = self._plan(force)
        self.kept = len(self.rows)

    def _plan(self, force: bool) -> list[Job]:
        """Take over the rows that hold still; what else there is to do."""
        task = self.task
        stems = name_outputs(self.sources, {k: row.stem for k, row in self.journal.rows.items()})
        digest = hashlib.sha256(repr(task.settings).encode()).hexdigest()[:16]
        todo = []
        for source in self.sources:
            made_from = f"{digest} {_stamp(source.path)}"
            row = None if force else self.journal.find(source.key, made_from)
            if row is not None and all(path.exists() for path in task.outputs(row.stem)):
                self.rows[source.key] = row
                row.file = readable(source.path)
            else:
                todo.append(Job(source.path, source.key, stems[source.key], made_from))
        return todo

    def work(
        self,
        jobs: int | None,
        progress: bool,
        then: Callable[[Report], None] = lambda report: None,
        finish: Callable[[Sequence[tuple[str, AnyRow]]], None] = lambda listed: None,
    ) -> Report[AnyRow]:
        """Do what is to do, `then` what needs all of it; write the table and `finish`.

        After Ctrl-C the table is written and finished with what there is.

        Raises:
            Interrupted: Ctrl-C; what is done has been written.
        """
        self.journal.start()
        report: Report[AnyRow] = Report([], self.kept, 0.0)
        stopped: KeyboardInterrupt | None = None

        def record(job: Job, row: AnyRow) -> None:
            self.rows[job.key] = row
            if row.ok:
                self.journal.add(job.key, job.made_from, row)
            elif progress:
                tqdm.write(f"{row.file}: {row.note}", file=sys.stderr)

        try:
            with pillow_settings():
                work(self.task, self.todo, record, jobs or cpu_count(), "pictures", progress)
                then(report)
        except KeyboardInterrupt as interrupt:
            self.task.closed.set()
            stopped = interrupt
        report.rows = [self.rows[source.key] for source in self.sources if source.key in self.rows]
        report.seconds = time.perf_counter() - self.start
        try:
            self._write(finish)
        except KeyboardInterrupt as interrupt:
            stopped = interrupt
            self._write(finish)  # a second Ctrl-C does end it
        if stopped is not None:
            raise Interrupted(report, getattr(stopped, "abandoned", 0)) from None
        return report

    def _write(self, finish: Callable[[Sequence[tuple[str, AnyRow]]], None]) -> None:
        """The tables, of this run and of what earlier ones have left."""
        task = self.task
        every = {
            key: row
            for key, row in self.journal.rows.items()
            if key in self.rows or task.outputs(row.stem)[0].exists()
        }
        listed = sorted({**every, **self.rows}.items(), key=lambda item: (item[1].file, item[0]))
        write(task.out / task.table, csv_bytes(row.cells() for _, row in listed))
        finish(listed)


def _sources(paths: Iterable[str], task: Task) -> list[Source]:
    paths = list(paths)
    sources = find_pictures(paths, str(task.out))
    if not any(os.path.exists(source.path) for source in sources):
        raise ValueError(f"no pictures in {', '.join(map(readable, paths)) or 'nothing'}")
    # Neither a data set's own masks/ nor someone's index.html may be overwritten.
    if not (task.out / task.journal).exists():
        for name in (*task.ours, task.table):
            if (task.out / name).exists():
                raise ValueError(
                    f"{readable(str(task.out / name))} is not of an earlier run: "
                    "choose another folder"
                )
    return sources


def _stamp(path: str) -> str:
    """What changes when a file does."""
    try:
        stat = os.stat(path)
    except OSError:
        return "missing"
    return f"{stat.st_size} {stat.st_mtime_ns}"
