"""What a run found out about each picture, and the file that remembers it for the next run."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .files import JOURNAL, readable, write

__all__ = ["Journal", "Row", "csv_bytes"]

FAILED = "failed"


@dataclass(slots=True)
class Row:
    """One picture's line in results.csv."""

    file: str
    stem: str  #: its mask is masks/<stem>.png
    width: int | None = None
    height: int | None = None
    foreground: float | None = None  #: share of the pixels
    error: float | None = None  #: inpainting error at working resolution
    steps: int | None = None
    status: str = FAILED  #: how IEM ended, or "failed"
    seconds: float | None = None
    note: str = ""
    scores: dict[str, float] = field(default_factory=dict)  #: of `truth.score`

    @property
    def ok(self) -> bool:
        return self.status != FAILED

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}" if self.width else ""

    def cells(self) -> dict[str, Any]:
        """Column → value in results.csv."""
        return {
            "file": self.file,
            "mask": f"masks/{readable(self.stem)}.png" if self.ok else "",
            "size": self.size,
            "foreground_share": _rounded(self.foreground, 4),
            "inpainting_error": _rounded(self.error, 6),
            "steps": self.steps,
            "status": self.status,
            "seconds": _rounded(self.seconds, 4),
            "note": self.note,
            **{name: _rounded(value, 6) for name, value in self.scores.items()},
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


class Journal:
    """OUT/fastseg.jsonl: a line for each picture done, with what its results were made from.

    A line is whole before the next begins, so a run that is killed loses only what it was at.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / JOURNAL
        self.rows: dict[str, Row] = {}
        self._made_from: dict[str, str] = {}
        if not self.path.exists():
            return
        for line in self.path.read_text("utf-8").splitlines():
            try:
                source, made_from, row = json.loads(line)
                self.rows[source] = Row(**row)
                self._made_from[source] = made_from
            except (ValueError, TypeError):
                continue  # cut short, or of another version: that picture is done anew

    def find(self, source: str, made_from: str) -> Row | None:
        """The row of `source` if it was made from just this."""
        return self.rows.get(source) if self._made_from.get(source) == made_from else None

    def start(self) -> None:
        """Write the file anew, one whole line a picture, before lines are added."""
        write(self.path, "".join(map(self._line, self.rows)).encode())

    def add(self, source: str, made_from: str, row: Row) -> None:
        """Remember `row` of the picture `source`."""
        self.rows[source], self._made_from[source] = row, made_from
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self._line(source))

    def _line(self, source: str) -> str:
        return json.dumps([source, self._made_from[source], asdict(self.rows[source])]) + "\n"


def csv_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """CSV of rows that may have different columns, in the order in which these first occur."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
