"""`python -m benchmarks.readme` writes the figures of benchmarks/results into README.md."""

import csv
from pathlib import Path

from .machine import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "amd-epyc-2-cores"
BEGIN, END = "<!-- numbers: begin -->\n", "<!-- numbers: end -->\n"
RACES = ("iem_end_to_end", "iem_iteration")
OPERATORS = (
    "slic",
    "region_pool",
    "region_spp",
    "region_resize",
    "iic_loss",
    "iic_loss_summed",
    "soft_ncut",
    "infoseg_loss",
    "info_nce",
    "confusion",
    "masked_conv2d",
    "ordered_attention",
    "autoregressive_step",
)
SETS = {
    "flowers17": "half of Oxford 17 Flowers",
    "ecssd": "half of ECSSD",
    "weizmann_horses": "half of Weizmann Horses",
}
SCORES = {"accuracy": "accuracy", "iou": "IoU", "miou": "mIoU", "dice": "DICE"}


def rows(name: str) -> list[dict[str, str]]:
    with (RESULTS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(heads: list[str], lines: list[list[str]]) -> str:
    drawn = [heads, ["---"] * len(heads), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in drawn)


def source(name: str) -> str:
    row = rows(name)[0]
    path = (RESULTS / f"{name}.csv").relative_to(ROOT).as_posix()
    about = f"{row['machine']}, {row['threads']} threads, {row['date'][:10]}, {row['commit']}"
    return f"- [{name}]({path}): {about}\n"


def races() -> str:
    """How many times as long the peers take."""
    found = [{row["variant"]: row["ratio"] for row in rows(name)[1:]} for name in RACES]
    lines = [[peer, *(f"{float(race[peer]):.0f}×" for race in found)] for peer in found[0]]
    heads = [f"{name}: {rows(name)[0]['shape']}" for name in RACES]
    return table(["time against the native kernel's", *heads], lines)


def sizes() -> str:
    found = {row["variant"]: float(row["ratio"]) for row in rows("iem_size")}
    shown = ", ".join(f"{size} {ratio:.2g}×" for size, ratio in found.items())
    return f"An iteration's cost against the picture's size: {shown}.\n"


def operators() -> str:
    """How many times as long the peers of each operator take, size by size."""
    lines: dict[tuple[str, str], list[str]] = {}
    for name in OPERATORS:
        ours = rows(name)[0]["variant"]
        for row in rows(name):
            if not row["variant"].startswith(ours):
                peers = lines.setdefault((name, row["shape"]), [])
                peers.append(f"{row['variant']} {float(row['ratio']):.3g}×")
    shown = [[name, shape, ", ".join(peers)] for (name, shape), peers in lines.items()]
    return table(["case", "size", "time of the peers against fastseg's"], shown)


def scores() -> str:
    """IEM as it is by default, no label seen."""
    lines = [
        [SETS[row["set"]], row["pictures"], *(f"{float(row[f'{s} given']):.1f}" for s in SCORES)]
        for row in rows("quality")
        if row["way"] == "native"
    ]
    return table(["set", "pictures", *SCORES.values()], lines)


def numbers() -> str:
    """All that stands between the markers."""
    scored = "Masks at 128×128 with all defaults, in percent:\n"
    sources = "Sources, with machine, date and commit:\n"
    files = "".join(map(source, (*RACES, "iem_size", "quality", *OPERATORS)))
    return "\n".join([races(), sizes(), operators(), scored, scores(), sources, files])


def written(readme: str) -> str:
    """README with the figures in it."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + "\n" + numbers() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    path = Path(ROOT / "README.md")
    path.write_text(written(path.read_text("utf-8")), "utf-8")
