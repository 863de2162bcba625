"""`fastseg eval RUN`: the honest number, and beside it the one that is published."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from fastseg.cli import main
from fastseg.data import batches, open_dataset
from fastseg.metrics import SegmentationMetrics
from fastseg.train import restore
from tests.train.tiny import TinyConfig


@pytest.fixture
def run(bench):
    return bench.run("run", TinyConfig(epochs=4, lr=1.0), seed=3)


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_last_and_best_stand_side_by_side(run, bench, capsys):
    assert main(["eval", str(run), "-o", str(bench.folder / "scores.csv")]) == 0
    lines = bench.lines("run")
    accuracies = [line["scores"]["tiny"]["last"]["accuracy"] for line in lines]
    last, best, *_ = rows(bench.folder / "scores.csv")
    assert (last["variant"], last["weights"], last["epoch"]) == ("tiny", "last", "4")
    assert best["weights"] == "best (oracle)"
    assert float(last["accuracy"]) == accuracies[-1]
    assert float(best["accuracy"]) == max(accuracies)
    assert int(best["epoch"]) == 1 + accuracies.index(max(accuracies))
    assert accuracies[-1] < max(accuracies)  # else the two could not be told apart
    printed = capsys.readouterr().out
    assert f"{100 * accuracies[-1]:.2f}" in printed
    assert f"{100 * max(accuracies):.2f}" in printed
    assert "apple" in printed


def test_it_is_the_one_hungarian_over_all_pixels(run, bench):
    """Worked out once more, from the data set to the score."""
    assert main(["eval", str(run), "--split", "val", "-o", str(bench.folder / "x.json")]) == 0
    method = restore(run).method
    metrics = SegmentationMetrics(4, 4)
    data = open_dataset("fruits?limit=12", "val")
    geometry = replace(data.geometry, size=32)
    with torch.no_grad():
        for batch in batches(data, geometry, 5, seed=0, epoch=0, train=False):
            metrics.update(method.predict(batch)["tiny"], batch.labels)
    expected = metrics.compute()
    found = json.loads((bench.folder / "x.json").read_text())
    assert [row["weights"] for row in found] == ["last", "last"]
    assert found[0]["accuracy"] == expected.accuracy
    assert found[0]["iou apple"] == pytest.approx(expected.iou[1])


def test_best_is_not_told_of_other_data(run, capsys):
    assert main(["eval", "run", str(run), "--split", "val", "--batch-size", "3"]) == 0
    printed = capsys.readouterr().out
    assert "It is not known here" in printed
    assert printed.count("last") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no checkpoint: nowhere"),
        (["RUN", "--data", "folder:nowhere"], "nowhere"),
        (["RUN", "--data", "folder:PICTURES"], "has no truth to score against"),
    ],
)
def test_what_cannot_be_scored(run, bench, capsys, arguments, message):
    (bench.folder / "pictures").mkdir()
    Image.new("RGB", (20, 20)).save(bench.folder / "pictures" / "a.png")
    names = {"RUN": str(run), "PICTURES": str(bench.folder / "pictures")}
    for name, path in names.items():
        arguments = [word.replace(name, path) for word in arguments]
    assert main(["eval", *arguments]) == 2
    assert message in capsys.readouterr().err
