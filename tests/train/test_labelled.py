"""What few labels add to scores: matched clusters, and probes of frozen features."""

import csv
import json
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fastseg
from fastseg.cli import main
from fastseg.data import Dataset, Geometry, Sample, open_dataset
from fastseg.methods import METHODS
from fastseg.train import ConfigError, restore
from fastseg.train.labelled import Lessons, labelled, learn_from
from tests.train.conftest import OPTIONS
from tests.train.tiny import Tiny, TinyConfig

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


class Stripes(Dataset):
    """Pictures of stripes in two of three shades, the classes; every third has no label."""

    classes, channels = ("dark", "grey", "bright"), 3

    def __len__(self):
        return 30

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        labels = np.repeat(rng.permutation(3)[:2], 8)[:, None] + np.zeros((16, 16), np.int16)
        image = 40 + 80 * labels[..., None] + rng.integers(0, 9, (16, 16, 3))
        known = labels if index % 3 else np.full_like(labels, -1)
        return Sample(str(index), image.astype(np.uint8), known.astype(np.int16))


class Shades(Tiny):
    """Six shades as clusters, without training; the features are the pixels, not in order."""

    clusters = 6

    def predict(self, batch):
        shade = (batch.images.mean(1) * 6.4).long().clamp(0, 5)
        return {"tiny": shade, "shifted": 5 - shade}

    def features(self, batch):
        x = batch.images.mean(1, keepdim=True)
        return torch.cat((x - 0.5, 20 * (x - 0.5).abs() + 3), 1)


def shades():
    return Shades(TinyConfig(), 3, 3)


def learnt(model=None, **options):
    chosen = replace(OPTIONS, **options)
    return learn_from(model or shades(), Stripes(), Geometry(), chosen, 4, CPU)


# --- Which pictures ----------------------------------------------------------------------------


def test_so_many_pictures_with_labels_are_taken_the_first_ones_of_more():
    def keys(count, seed=0):
        found = list(labelled(Stripes(), Geometry(), count, seed, 4))
        assert all(len(batch.images) <= 4 for batch in found)
        assert all(batch.valid.all() for batch in found)
        return [key for batch in found for key in batch.keys]

    assert len(keys(7)) == 7
    assert keys(3) == keys(7)[:3]
    assert keys(7, seed=1) != keys(7)
    assert sorted(map(int, keys(99))) == [i for i in range(30) if i % 3]
    assert not keys(0)


# --- Matching ----------------------------------------------------------------------------------


def test_clusters_get_the_most_frequent_class_of_the_labelled_pictures():
    model = shades()
    found = learnt(match=(5, 12))
    assert set(found.mappings) == {
        f"{variant}, {count} labelled" for variant in ("tiny", "shifted") for count in (5, 12)
    }
    for name, (variant, mapping) in found.mappings.items():
        count = int(name.split()[1])
        table = fastseg.SegmentationMetrics(6, 3, "many_to_one")
        for batch in labelled(Stripes(), Geometry(), count, 0, 4):
            table.update(model.predict(batch)[variant], batch.labels)
        assert mapping.tolist() == table.compute().mapping.tolist()
    tiny, shifted = (found.mappings[f"{variant}, 12 labelled"][1] for variant in model.variants)
    assert tiny.tolist() == shifted.tolist()[::-1]
    assert {0, 1, 2} <= set(tiny.tolist())


def test_of_fewer_pictures_all_are_taken():
    assert set(learnt(match=(5, 500)).mappings) == {
        "tiny, 5 labelled", "shifted, 5 labelled", "tiny, 20 labelled", "shifted, 20 labelled",
    }  # fmt: skip


# --- Probes ------------------------------------------------------------------------------------


def test_probes_learn_from_frozen_features():
    model = shades()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    found = learnt(model, probe=("linear", "mlp"), labelled=15)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert list(found.probes) == ["linear probe", "mlp probe"]
    assert not any(probe.training for probe in found.probes.values())
    scores = {name: fastseg.SegmentationMetrics(3, 3) for name in found.probes}
    with torch.no_grad():
        for batch in labelled(Stripes(), Geometry(), 20, 1, 4):
            for name, classes in found.probe(model, batch).items():
                scores[name].update(classes, batch.labels)
    accuracy = {name: s.compute(range(3)).accuracy for name, s in scores.items()}
    assert accuracy["linear probe"] > 0.95
    assert accuracy["mlp probe"] > 0.95


def test_probes_see_features_of_fewer_pixels():
    class Coarse(Shades):
        def features(self, batch):
            return nn.functional.avg_pool2d(super().features(batch), 4)

    model = Coarse(TinyConfig(), 3, 3)
    found = learnt(model, probe=("linear",))
    batch: Any = next(labelled(Stripes(), Geometry(), 4, 0, 4))
    with torch.no_grad():
        assert found.probe(model, batch)["linear probe"].shape == batch.labels.shape
    assert Lessons().probe(model, batch) == {}


# --- In a run ----------------------------------------------------------------------------------


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["variant"]: row for row in csv.DictReader(file) if row["weights"] == "last"}


def test_a_run_scores_them_at_its_end_and_eval_again(bench, monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "tiny", Shades)
    way = {"match": (2, 6), "probe": ("linear",), "labelled": 6}
    bench.run("plain")
    out = bench.run("labels", **way)
    first, last = bench.lines("labels")
    assert set(first["scores"]) == {"tiny", "shifted"}
    added = {"tiny, 2 labelled", "tiny, 6 labelled", "shifted, 2 labelled", "shifted, 6 labelled",
             "linear probe"}  # fmt: skip
    assert set(last["scores"]) == {"tiny", "shifted"} | added
    # Training has not seen them.
    torch.testing.assert_close(bench.state("plain").model, bench.state("labels").model)
    arguments = ["--match", "2", "6", "--probe", "linear", "--labelled", "6"]
    assert main(["eval", str(out), *arguments, "-o", str(bench.folder / "x.csv")]) == 0
    found = rows(bench.folder / "x.csv")
    for name in added:
        expected = last["scores"][name]["last"]["accuracy"]
        assert float(found[name]["accuracy"]) == pytest.approx(expected), name
    assert "tiny, 6 labelled" in capsys.readouterr().out


def test_the_mapping_is_of_training_pictures(bench, monkeypatch):
    monkeypatch.setitem(METHODS, "tiny", Shades)
    out = bench.run("labels", match=(12,))
    trained = restore(out)
    score = bench.lines("labels")[-1]["scores"]["tiny, 12 labelled"]["last"]
    table = fastseg.SegmentationMetrics(6, 4, "many_to_one")
    for sample in islice(iter_of(open_dataset("fruits?limit=12", "train")), 12):
        batch = one(sample)
        table.update(trained.method.predict(batch)["tiny"], batch.labels)
    assert score["mapping"] == table.compute().mapping.tolist()


def iter_of(dataset):
    return (dataset[i] for i in range(len(dataset)))


def one(sample):
    """Cut to the middle 32×32 pixels, as the run does."""
    side = sample.image.shape[0]
    cut = slice((side - 32) // 2, (side + 32) // 2)
    image = torch.from_numpy(sample.image[cut, cut]).permute(2, 0, 1)[None].float() / 255
    labels = torch.from_numpy(sample.labels[cut, cut].astype(np.int64))[None]
    return fastseg.data.Batch(
        image, labels >= 0, (), torch.zeros(1, dtype=torch.int64), ("",), labels
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe": ("linear",)}, "`--probe` needs features: Tiny has none"),
        ({"match": (3, 0)}, "`--match` must be at least 1, got 0"),
        ({"labelled": 0}, "`--labelled` must be at least 1, got 0"),
    ],
)
def test_what_is_refused_before_training(bench, options, message):
    with pytest.raises(ConfigError, match=message):
        bench.run("a", **options)
    assert not (bench.folder / "a" / "checkpoint.safetensors").exists()


def test_pictures_without_labels_are_refused(bench, tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for i in range(4):
        Image.new("RGB", (32, 32)).save(tmp_path / "photos" / f"{i}.png")
    with pytest.raises(ConfigError, match="`--match` and `--probe` need labels: folder:"):
        bench.run("a", data=f"folder:{tmp_path}/photos", classes=2, match=(1,))


def test_what_a_method_prepares_is_scored_and_saved(bench, monkeypatch):
    class Preparing(Tiny):
        seen = 0
        mean: torch.Tensor

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.register_buffer("mean", torch.full((), torch.nan))

        def prepare(self, batches):
            Preparing.seen += 1
            self.mean.fill_(torch.cat([batch.images for batch in batches]).mean())

        def predict(self, batch):
            assert self.mean.isfinite()
            return super().predict(batch)

    monkeypatch.setitem(METHODS, "tiny", Preparing)
    bench.run("a")
    assert Preparing.seen == 2
    assert 0 < bench.state("a").model["mean"] < 1
    bench.run("b", eval_every=0)
    assert Preparing.seen == 3  # at the end all the same
    torch.testing.assert_close(bench.state("a").model, bench.state("b").model, rtol=0, atol=0)
    text = (bench.folder / "b" / "metrics.jsonl").read_text().splitlines()
    assert all("scores" not in json.loads(line) for line in text)
