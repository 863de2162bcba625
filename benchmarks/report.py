"""Results as a table, a CSV and a plot."""

import csv
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from .runner import Failure, Row

__all__ = ["lines_of", "load", "note", "save", "table", "write_csv"]


def table(rows: Sequence[Row]) -> str:
    """What a terminal shows of one case."""
    lines = []
    for shape in dict.fromkeys(row.shape for row in rows):
        here = [row for row in rows if row.shape == shape]
        lines.append(f"{here[0].case}: {shape}; milliseconds per {here[0].unit}")
        heads = ("variant", "median", "p20", "p80", "ratio", "goal", "GFLOP/s", "GB/s", "of bound")
        lines.append("  {:<34}{:>10}{:>10}{:>10}{:>9}{:>8}{:>9}{:>9}{:>19}".format(*heads))
        lines += [_line(row) for row in here]
    return "\n".join(lines)


def _line(row: Row) -> str:
    name = row.variant if row.mode == "eager" else f"{row.variant} ({row.mode})"
    line = f"  {name:<34}{row.ms:>10.4g}{row.ms_p20:>10.4g}{row.ms_p80:>10.4g}{row.ratio:>9.3g}"
    line += f"{row.goal:>8}{row.gflops:>9.3g}{row.gbytes:>9.3g}{row.share:>10.1%} {row.bound:<8}"
    if row.memory_mib is not None:
        line += f" +{row.memory_mib:.1f} MiB, input and output {row.io_mib:.1f} MiB"
    return line


def save(rows: Sequence[Row], about: dict[str, Any], folder: Path) -> list[Path]:
    """`folder`/CASE.csv and CASE.png of one case, each whole or not at all."""
    name = rows[0].case
    lines = [{**asdict(row), **about} for row in rows]
    columns = [field.name for field in fields(Row)] + list(about)
    paths = [folder / f"{name}.csv", folder / f"{name}.png"]
    write_csv(lines, columns, paths[0])
    _write(paths[1], _plot(rows, about))
    return paths


def lines_of(path: Path) -> list[dict[str, str]]:
    """The lines of a table, none if there is no such file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def load(path: Path, commit: str) -> list[Row]:
    """The rows of a table that are of this commit."""
    types = {field.name: field.type for field in fields(Row)}

    def read(name: str, text: str) -> Any:
        if types[name] is str:
            return text
        return float(text) if text else None

    return [
        Row(**{name: read(name, line[name]) for name in types})
        for line in lines_of(path)
        if line["commit"] == commit and types.keys() <= line.keys()
    ]


def note(
    name: str,
    failures: Sequence[Failure],
    about: dict[str, Any],
    folder: Path,
    keep: bool = False,
) -> None:
    """In `folder`/failures.csv: those of one case, its earlier ones gone unless to `keep`."""
    path = folder / "failures.csv"
    lines: list[dict[str, Any]] = [line for line in lines_of(path) if keep or line["case"] != name]
    lines += [{**asdict(failure), **about} for failure in failures]
    if lines or path.exists():
        write_csv(lines, ["case", "shape", "why", *about], path)


def write_csv(lines: Sequence[dict[str, Any]], columns: Sequence[str], path: Path) -> None:
    """A table with a heading; numbers at six digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        short = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in line.items()}
        writer.writerow(short)
    _write(path, text.getvalue().encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _plot(rows: Sequence[Row], about: dict[str, Any]) -> bytes:
    """Bars of the medians with p20 and p80, one panel a problem: PNG."""
    from matplotlib.figure import Figure

    shapes = list(dict.fromkeys(row.shape for row in rows))
    panels = [[row for row in rows if row.shape == shape] for shape in shapes]
    heights = [0.9 + 0.35 * len(panel) for panel in panels]
    figure = Figure(figsize=(9, sum(heights) + 0.6), layout="constrained")
    axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        medians = [row.ms for row in panel]
        errors = [
            [row.ms - row.ms_p20 for row in panel],
            [row.ms_p80 - row.ms for row in panel],
        ]
        names = [r.variant if r.mode == "eager" else f"{r.variant} ({r.mode})" for r in panel]
        colours = ["C0"] + ["0.7"] * (len(panel) - 1)
        bars = axis.barh(range(len(panel)), medians, xerr=errors, color=colours, capsize=2)
        notes = [f" {row.ms:.3g} ms  ×{row.ratio:.3g}" for row in panel]
        axis.bar_label(bars, notes, padding=4, fontsize=8)
        axis.set_yticks(range(len(panel)), names)
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.margins(x=0.25)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"{panel[0].case}: {panel[0].shape}", fontsize=9, loc="left")
        axis.set_xlabel(f"ms per {panel[0].unit}", fontsize=8)
    keys = ("machine", "threads", "commit", "date", "packages")
    figure.supxlabel(
        "; ".join(f"{about[k]} {k}" if k == "threads" else str(about[k]) for k in keys), fontsize=6
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
