"""`fastseg segment --model RUN`: label maps by what was trained."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut, coffee

from fastseg.cli import main
from fastseg.data import Geometry
from fastseg.methods import METHODS
from fastseg.predict.labels import read_labels
from fastseg.train import restore
from fastseg.train.segment import ModelSettings, label_map
from tests.train.tiny import Tiny, TinyConfig

SETTINGS = ModelSettings("", "tiny", Geometry())


@pytest.fixture
def run(bench):
    """A run, and two photographs beside it."""
    for name, picture in (("a", astronaut()), ("sub/b", coffee())):
        path = bench.folder / "pictures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[:180:2, :250:2]).save(path)
    return bench.run("run", TinyConfig(epochs=1), eval_every=0)


def segment(bench, *options):
    arguments = [bench.folder / "pictures", "-o", bench.folder / "out", "--model", *options]
    return main(["segment", *map(str, arguments)])


def by_hand(run, picture, variant="tiny"):
    """The method's prediction of a whole picture."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        network = restore(run).method.get_submodule("network")
        labels = network(pixels).argmax(1)[0].numpy()
    return labels if variant == "tiny" else (labels + 1) % 4


@pytest.mark.parametrize("options", [[], ["--tile", "40", "--overlap", "4"], ["--tile", "full"]])
@pytest.mark.parametrize("variant", ["tiny", "shifted"])
def test_labels_are_those_of_the_method(bench, run, options, variant):
    """Tile by tile too: the network looks one pixel far."""
    assert segment(bench, run, *options, "--variant", variant, "--overlay") == 0
    out = bench.folder / "out"
    with open(out / "classes.csv", newline="", encoding="utf-8") as file:
        rows = {row["labels"]: row for row in csv.DictReader(file)}
    for name in ("a", "sub/b"):
        labels = read_labels(str(out / "labels" / f"{name}.png"))
        with Image.open(bench.folder / "pictures" / f"{name}.png") as picture:
            assert (labels == by_hand(run, picture, variant)).all()
        row = rows[f"labels/{name}.png"]
        for k in range(4):
            assert float(row[f"share {k}"]) == pytest.approx((labels == k).mean(), abs=1e-4)
        with Image.open(out / "colours" / f"{name}.png") as colours:
            pixels = np.asarray(colours).reshape(-1, 3)
        assert len(np.unique(pixels, axis=0)) == len(np.unique(labels))
        assert (out / "overlays" / f"{name}.jpg").exists()
    html = (out / "index.html").read_text("utf-8")
    assert html.count("<article>") == 2
    assert "<h1>Label maps</h1>" in html
    assert f"tiny of {run} after 3 steps" in html


def test_a_second_run_does_what_is_missing_or_changed(bench, run, capsys):
    assert segment(bench, run) == 0
    assert "2 pictures segmented" in capsys.readouterr().err
    (bench.folder / "out" / "labels" / "a.png").unlink()
    assert segment(bench, run) == 0
    assert "1 picture segmented" in capsys.readouterr().err
    bench.run("run", TinyConfig(epochs=1), eval_every=0, fresh=True, seed=1)
    assert segment(bench, run) == 0
    assert "2 pictures segmented" in capsys.readouterr().err


class Wide(Tiny):
    """Tells what it is given: sides, superpixels."""

    multiple = 16
    superpixels = ({"n_segments": 8, "compactness": 5.0},)

    def predict(self, batch):
        assert batch.images.shape[2] % 16 == batch.images.shape[3] % 16 == 0
        regions = batch.superpixels[0]
        assert ((regions == -1) == ~batch.valid).all()
        return {"tiny": regions.clamp(min=0).long(), "shifted": regions}


def test_sides_are_padded_and_superpixels_as_dense_as_in_training():
    method = Wide(TinyConfig(), 3, 4).eval()
    picture = coffee()[:200:2, :300:2]  # 100×150
    settings = replace(SETTINGS, geometry=Geometry(size=(50, 75)))
    counts = [len(np.unique(label_map(method, picture, replace(settings, tile=tile))))
              for tile in (None, 80)]  # fmt: skip
    assert 0.6 * 32 < counts[0] < 1.5 * 32
    assert counts[1] < counts[0]  # each tile counts from 0


def test_pictures_are_brought_to_the_scale_of_the_training():
    sizes = []

    class Sized(Tiny):
        def predict(self, batch):
            sizes.append(tuple(batch.images.shape[2:]))
            return super().predict(batch)

    method = Sized(TinyConfig(), 3, 4).eval()
    for geometry in (Geometry(scale=0.5), Geometry(short=40, size=32)):
        labels = label_map(method, coffee()[:160, :200], replace(SETTINGS, geometry=geometry))
        assert labels.shape == (160, 200)
    assert sizes == [(80, 100), (40, 50)]


def test_four_channels(bench):
    config = TinyConfig(epochs=1)
    (bench.folder / "four").mkdir()
    pixels = np.dstack([coffee()[:40, :50], coffee()[:40, :50, 0]])
    for name in ("a", "b"):
        Image.fromarray(pixels).save(bench.folder / "four" / f"{name}.png")
    data = f"folder:{bench.folder / 'four'}?channels=4"
    run = bench.run("four channels", config, data=data, classes=3)
    (bench.folder / "pictures").mkdir()
    Image.fromarray(pixels).save(bench.folder / "pictures" / "four.png")
    Image.fromarray(pixels[..., :3]).save(bench.folder / "pictures" / "three.png")
    assert segment(bench, run) == 1
    assert (bench.folder / "out" / "labels" / "four.png").exists()
    assert "must have 4 channels" in (bench.folder / "out" / "classes.csv").read_text()


def test_a_broken_picture_is_named_and_the_others_go_on(bench, run, capsys):
    (bench.folder / "pictures" / "broken.png").write_bytes(b"no picture")
    assert segment(bench, run) == 1
    err = capsys.readouterr().err
    assert "broken.png: not a picture" in err
    assert "2 pictures segmented" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variant", "odd"], "`variant` must be one of tiny, shifted, got 'odd'"),
        (["--tile", "64"], "`tile` must be greater than `overlap`, got 64 and 64"),
        (["--init", "10"], "--init cannot be used with --model"),
        (["--one-filter"], "--one-filter cannot be used with --model"),
    ],
)
def test_bad_options(bench, run, capsys, options, message):
    assert segment(bench, run, *options) == 2
    assert message in capsys.readouterr().err


def test_models_that_are_none(bench, run, capsys, monkeypatch):
    assert segment(bench, "nowhere") == 2
    assert "no checkpoint: nowhere" in capsys.readouterr().err
    monkeypatch.delitem(METHODS, "tiny")
    assert segment(bench, run) == 2
    assert "is of the method 'tiny', unknown here" in capsys.readouterr().err


def test_options_of_models_need_one(bench, run, capsys):
    arguments = [str(bench.folder / "pictures"), "-o", str(bench.folder / "out")]
    assert main(["segment", *arguments, "--tile", "9"]) == 2
    assert "--tile cannot be used without --model" in capsys.readouterr().err
