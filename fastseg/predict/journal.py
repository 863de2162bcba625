"""What a run found out about each picture, and the file that remembers it for the next run."""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from .files import write

__all__ = ["AnyRow", "Journal", "Row", "csv_bytes", "rounded"]

FAILED = "failed"
AnyRow = TypeVar("AnyRow", bound="Row")


@dataclass(slots=True)
class Row(ABC):
    """One picture's line in the table of a run; each command adds what it found out."""

    file: str
    stem: str  #: the name of its results
    width: int | None = None
    height: int | None = None
    status: str = FAILED  #: how it ended
    seconds: float | None = None
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.status != FAILED

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}" if self.width else ""

    @abstractmethod
    def cells(self) -> dict[str, Any]:
        """Column → value in the table."""


def rounded(value: float | None, digits: int) -> float | None:
    """`value`, unless there is none."""
    return None if value is None else round(value, digits)


class Journal(Generic[AnyRow]):
    """A file in OUT with a line for each picture done, and what its results were made from.

    A line is whole before the next begins, so a run that is killed loses only what it was at.
    """

    def __init__(self, path: Path, row: type[AnyRow]) -> None:
        self.path = path
        self.rows: dict[str, AnyRow] = {}
        self._made_from: dict[str, str] = {}
        if not self.path.exists():
            return
        for line in self.path.read_text("utf-8").splitlines():
            try:
                source, made_from, values = json.loads(line)
                self.rows[source] = row(**values)
                self._made_from[source] = made_from
            except (ValueError, TypeError):
                continue  # cut short, or of another version: that picture is done anew

    def find(self, source: str, made_from: str) -> AnyRow | None:
        """The row of `source` if it was made from just this."""
        return self.rows.get(source) if self._made_from.get(source) == made_from else None

    def start(self) -> None:
        """Write the file anew, one whole line a picture, before lines are added."""
        write(self.path, "".join(map(self._line, self.rows)).encode())

    def add(self, source: str, made_from: str, row: AnyRow) -> None:
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
