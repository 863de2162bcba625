"""`python -m benchmarks.readme` writes the figures of benchmarks/results into README.md."""

import csv
from pathlib import Path

from .machine import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "amd-epyc-2-cores"
BEGIN, END = "<!-- numbers: begin -->\n", "<!-- numbers: end -->\n"
CASES = (
    "iem_end_to_end",
    "iem_iteration",
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
    "argmax_in_place",
    "ac_step",
    "infoseg_step",
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


def link(name: str) -> str:
    return f"[{name}]({(RESULTS / f'{name}.csv').relative_to(ROOT).as_posix()})"


def origin(name: str) -> str:
    """When the figures of a file were measured, and at which commit."""
    row = rows(name)[0]
    return f"{row['date'][:10]}, {row['commit']}"


def span(ratios: list[float]) -> str:
    shown = (f"{ratio:.{0 if ratio >= 10 else 1}f}" for ratio in (min(ratios), max(ratios)))
    return "–".join(dict.fromkeys(shown)) + "×"


def operators() -> str:
    """How many times as long the peers of each operator take, from the least to the most."""
    lines = []
    for name in CASES:
        ours = rows(name)[0]["variant"]
        peers: dict[str, list[float]] = {}
        for row in rows(name):
            if not row["variant"].startswith(ours):
                peers.setdefault(row["variant"], []).append(float(row["ratio"]))
        shown = "; ".join(f"{peer} {span(ratios)}" for peer, ratios in peers.items())
        sizes = len({row["shape"] for row in rows(name)})
        lines.append([link(name), str(sizes), shown, origin(name)])
    return table(["case", "sizes", "time of the peers against fastseg's", "measured"], lines)


def growth() -> str:
    found = {row["variant"]: float(row["ratio"]) for row in rows("iem_size")}
    shown = ", ".join(f"{size} {ratio:.2g}×" for size, ratio in found.items())
    about = f"({link('iem_size')}, {origin('iem_size')})"
    return f"An iteration of IEM against one at 128², by the picture's size {about}: {shown}.\n"


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
    row = rows(CASES[0])[0]
    where = f"On {row['cores']} cores of an {row['machine']}, least and most over the sizes:\n"
    about = f"({link('quality')}, {origin('quality')})"
    scored = f"Masks of IEM at 128×128 with all defaults, in percent {about}:\n"
    return "\n".join([where, operators(), growth(), scored, scores()])


def written(readme: str) -> str:
    """README with the figures in it."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + "\n" + numbers() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    path = Path(ROOT / "README.md")
    path.write_text(written(path.read_text("utf-8")), "utf-8")
