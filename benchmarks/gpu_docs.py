"""`python -m benchmarks.gpu_docs` writes into docs/gpu.md what ran on which card, from
benchmarks/results."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from . import cases  # noqa: F401  (its import registers them)
from .machine import ROOT
from .readme import table
from .registry import CASES
from .report import lines_of

RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- runs: begin -->\n", "<!-- runs: end -->\n"
HEADS = ["case", "size", "ms", "ms, graph", "copy", "bound", "aim", "peers' time"]

Line = dict[str, str]


def cards(results: Path) -> list[Path]:
    """The folders that are not of a CPU, see `machine.folder_name`."""
    folders = [path for path in results.iterdir() if path.is_dir()]
    return sorted(path for path in folders if not path.name.endswith("-cores"))


def value_of(aim: str, row: Line) -> float:
    """What a row has of what its aim is about."""
    if aim.startswith("copy"):
        return float(row["gbytes"]) / float(row["gbytes_bound"])
    return float(row[aim.split()[0]])


def met(row: Line) -> str:
    """The aim, and whether it is reached."""
    if not row["aim"]:
        return ""
    _, sign, wanted = row["aim"].split()
    value = value_of(row["aim"], row)
    reached = value <= float(wanted) if sign == "≤" else value >= float(wanted)
    return f"{row['aim']}: {value:.3g}, {'met' if reached else '**missed**'}"


def measured(name: str, folder: Path) -> list[list[str]]:
    """A line for each size of a case."""
    rows = lines_of(folder / f"{name}.csv")
    found = []
    for shape in dict.fromkeys(row["shape"] for row in rows):
        here = [row for row in rows if row["shape"] == shape]
        ours = {row["mode"]: row for row in here if row["variant"] == here[0]["variant"]}
        best = ours.get("graph", ours["eager"])
        peers = [row for row in here if row["variant"] != best["variant"]]
        shown = [row for row in peers if row["mode"] == best["mode"]]
        shown += [row for row in peers if row["variant"] not in {s["variant"] for s in shown}]
        aims = [met(best), *(f"{row['variant']} {met(row)}" for row in shown if row["aim"])]
        found.append([
            f"`{name}`",
            shape,
            f"{float(ours['eager']['ms']):.3g}",
            f"{float(ours['graph']['ms']):.3g}" if "graph" in ours else "–",
            f"{value_of('copy', best):.0%}" if float(best["gbytes"]) else "–",
            f"{float(best['share']):.0%} {best['bound']}",
            "; ".join(filter(None, aims)),
            ", ".join(f"{row['variant']} {float(row['ratio']):.3g}×" for row in shown),
        ])  # fmt: skip
    return found


def checks(folder: Path) -> str:
    """How many checks of each kind came out how."""
    found = Counter((line["check"], line["outcome"]) for line in lines_of(folder / "checks.csv"))
    said = [f"{name} {outcome} ({count})" for (name, outcome), count in found.items()]
    return f"Checks: {', '.join(said) or 'none'}.\n"


def card(folder: Path, names: Sequence[str]) -> str:
    """All that ran on one card."""
    lines = [row for name in names for row in lines_of(folder / f"{name}.csv")]
    lines += lines_of(folder / "checks.csv")
    if not lines:
        return ""
    commits = Counter((line["commit"], line["date"][:10]) for line in lines)
    about = ", ".join(f"{commit} ({date})" for commit, date in commits)
    parts = [f"### {lines[0]['machine']}\n", f"At {about}; {lines[0]['packages']}.\n"]
    parts += [
        checks(folder),
        table(HEADS, [row for name in names for row in measured(name, folder)]),
    ]
    failed = [
        [f"`{line['case']}`", line["shape"], line["why"]]
        for line in lines_of(folder / "failures.csv")
    ]
    return "\n".join(
        [*parts, *([table(["not measured", "size", "why"], failed)] if failed else [])]
    )


def missing(results: Path, names: Sequence[str]) -> str:
    """What no card has measured."""
    never = [n for n in names if not any((f / f"{n}.csv").exists() for f in cards(results))]
    if not never:
        return "Every case has run.\n"
    return fill(f"Not run on any card: {', '.join(f'`{name}`' for name in never)}.", 100) + "\n"


def runs(results: Path) -> str:
    """All that stands between the markers."""
    names = [case.name for case in CASES.values() if "gpu" in case.devices]
    return "\n".join(
        filter(None, [*(card(f, names) for f in cards(results)), missing(results, names)])
    )


def written(page: str, results: Path) -> str:
    """docs/gpu.md with the runs in it."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + "\n" + runs(results) + "\n" + END + rest.split(END)[1]


def main() -> None:
    path = ROOT / "docs" / "gpu.md"
    path.write_text(written(path.read_text("utf-8"), RESULTS), "utf-8")


if __name__ == "__main__":
    main()
