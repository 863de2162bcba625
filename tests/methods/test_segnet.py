"""IEM as a method, and the network that learns from its masks."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import fastseg
from fastseg.cli import main
from fastseg.data.cache import ArrayCache
from fastseg.methods import IEM, METHODS
from fastseg.methods import segnet as module
from fastseg.train.log import read_metrics
from fastseg.train.restore import restore
from fastseg.train.score import score
from tests.methods.samples import batch, part, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def discs(count=4, side=32):
    """Bright discs on dark, each further from its ground than the one before, with the truth."""
    data = batch(count, (side, side))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    truth = ((y - side // 2) ** 2 + (x - side // 2) ** 2 < (side / 3) ** 2).expand(count, -1, -1)
    noise = torch.rand(data.images.shape, generator=torch.Generator().manual_seed(0)) / 50
    contrast = torch.linspace(0.2, 0.8, count)[:, None, None, None]
    images = 0.1 + contrast * truth[:, None] + noise
    valid = torch.ones_like(truth)
    return dataclasses.replace(data, images=images, valid=valid, labels=truth.long())


def saved(folder, images, labels=()):
    """A folder of pictures, and of their truth if there is any."""
    pixels = (255 * images.permute(0, 2, 3, 1)).round().byte()
    for name, pictures in {"images": pixels, "masks": labels}.items():
        for i, picture in enumerate(pictures):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.byte().numpy()).save(folder / name / f"{i}.png")


def test_iem_is_the_operator_and_foreground_is_1():
    config = IEM.Config(iterations=9, lamb=0.01, smoothing="paper", boundary_only=False, init=(60,))
    data = discs()
    found = IEM(config, 3, 2).predict(data)["mask"]
    expected = fastseg.iem(
        data.images, (60,), 9, lamb=0.01, smoothing="paper", boundary_only=False
    ).masks[:, 0]
    assert torch.equal(found, expected.long())
    model = IEM(IEM.Config(), 3, 2)
    assert (model.predict(data)["mask"] == data.labels).float().mean() > 0.97
    assert model.clusters == IEM(IEM.Config(), 3, 4).clusters == 2


def test_the_masks_of_highest_error_are_the_labels():
    """In the pictures' order; of any batches alike."""
    model, data = tiny("segnet", masks=2, iterations=40), discs()
    order = torch.tensor([3, 0, 2, 1])
    data = dataclasses.replace(data, images=data.images[order], labels=data.labels[order])
    errors = fastseg.iem(data.images, iterations=40).error
    assert errors.argsort(descending=True)[:2].tolist() == [0, 2]
    for batches in ([data], [part(data, slice(0, 3)), part(data, slice(3, 4))]):
        labels = model.label(iter(batches), ArrayCache(None))
        assert list(labels) == [0, 2]
        for place, found in labels.items():
            expected = fastseg.iem(data.images[place : place + 1], iterations=40).masks[0, 0]
            assert np.array_equal(found, expected.numpy())
    assert list(tiny("segnet", masks=9).label([data], ArrayCache(None))) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="`masks` must be at least 1, got 0"):
        tiny("segnet", masks=0)


def test_the_learning_rate_is_the_papers_unless_it_decays():
    assert tiny("segnet").lr(5) == 1e-3
    assert tiny("segnet", decay=0.5).lr(2) == 0.25e-3


def test_pixels_that_are_not_valid_have_no_label():
    data = discs()
    data.valid[:, :5] = False
    (labels, *_) = tiny("segnet").label([data], ArrayCache(None)).values()
    assert (labels[:5] == -1).all()
    assert set(np.unique(labels[5:])) == {0, 1}


def test_masks_are_found_once(tmp_path, monkeypatch):
    data, count = discs(), []

    def iem(*arguments, **options):
        count.append(options["iterations"])
        return fastseg.iem(*arguments, **options)

    monkeypatch.setattr(module, "iem", iem)
    first, again = (tiny("segnet").label([data], ArrayCache(tmp_path)) for _ in range(2))
    assert count == [5, 0, 0]  # without an update for the error alone
    assert all(np.array_equal(first[place], again[place]) for place in first)
    tiny("segnet", iterations=6).label([data], ArrayCache(tmp_path))
    assert count[3:] == [6, 0]


def test_the_loss_is_the_cross_entropy_of_valid_pixels_that_have_a_label():
    model: Any = tiny("segnet")
    data = batch(labels=True)
    data.labels[:, 20:] = -1
    with torch.no_grad():
        loss = model.loss(data, 0.0)["loss"].item()
        p = model.network(data.images)[:, 0].sigmoid()
    known = data.valid & (data.labels >= 0)
    expected = F.binary_cross_entropy(p[known], data.labels[known].float()).item()
    assert loss == pytest.approx(expected, rel=1e-5)
    nothing = dataclasses.replace(data, labels=torch.full_like(data.labels, -1))
    assert model.loss(nothing, 0.0)["loss"] == 0
    with pytest.raises(ValueError, match="`batch` must have labels, which `label` makes, got none"):
        model.loss(dataclasses.replace(data, labels=None), 0.0)


def test_it_learns_and_is_refined():
    model, data = tiny("segnet", width=8, iterations=20), discs()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(data, 0.0)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        found = model.eval().predict(data)
    for name in model.variants:
        assert (found[name] == data.labels).float().mean() > 0.97, name
    start = found["network"][:, None].bool()
    refined = fastseg.iem(data.images, start, 20).masks[:, 0]
    assert torch.equal(found["refined"], refined.long())


def test_from_one_command_over_a_folder(tmp_path, capsys):
    """Without truth; the masks are kept, and a run goes on."""
    data = discs(6)
    saved(tmp_path / "set", data.images)
    out = tmp_path / "run"

    def run(*options):
        return main(["train", "segnet", "--data", f"folder:{tmp_path}/set", "--out", str(out),
                     "--masks", "4", "--width", "4", "--batch-size", "2", "--iterations", "20",
                     "--no-tensorboard", *options])  # fmt: skip

    assert run("--epochs", "1") == 0
    assert [line["step"] for line in read_metrics(out)] == [2]  # of the four chosen
    assert len(list((out / "superpixels").rglob("*.npy"))) == 3
    trained = restore(out)
    assert trained.method.classes == 2
    assert run("--epochs", "2") == 0
    assert [line["step"] for line in read_metrics(out)] == [2, 4]
    capsys.readouterr()
    assert run("--epochs", "1") == 2
    assert "`--epochs` 2 → 1" in capsys.readouterr().err


def test_scores_take_foreground_for_foreground(tmp_path):
    """No truth says which side of a mask is which, not even where that would score better."""
    data = discs(2)
    saved(tmp_path / "set", data.images, 1 - data.labels)  # the wrong way
    kind = METHODS["iem"].Config
    assert kind().init == (44, 78, 92)
    out = str(tmp_path / "run")
    assert main(["train", "iem", "--data", f"folder:{tmp_path}/set", "--out", out,
                 "--no-tensorboard"]) == 0  # fmt: skip
    scores = read_metrics(tmp_path / "run")[-1]["scores"]
    assert scores["mask"]["last"]["accuracy"] < 0.05
    assert scores["mask"]["last"]["mapping"] == [0, 1]
    assert scores["mask, better side (oracle)"]["last"]["accuracy"] > 0.95


def test_the_truth_does_not_say_where_objects_end(tmp_path, monkeypatch):
    """By pixels without a class around them: those are learnt from like the others."""
    data = discs(2)
    data.labels[:, 8:24, 8:24] = 255
    saved(tmp_path / "set", data.images, data.labels)
    kind, seen = METHODS["segnet"], []
    learn, label = kind.loss, kind.label

    def loss(self, batch, *arguments):
        seen.append(batch.valid & (batch.labels >= 0))
        return learn(self, batch, *arguments)

    def labels(self, batches, cache):
        (batch,) = batches
        assert batch.labels is None
        return label(self, [batch], cache)

    monkeypatch.setattr(kind, "loss", loss)
    monkeypatch.setattr(kind, "label", labels)
    assert main(["train", "segnet", "--data", f"folder:{tmp_path}/set", "--out",
                 str(tmp_path / "run"), "--epochs", "1", "--iterations", "5", "--width", "4",
                 "--no-tensorboard"]) == 0  # fmt: skip
    assert len(seen) == 1
    assert seen[0].all()


def test_the_better_side_is_each_pictures_own():
    """Of the pixels that have a class; of a tie the mask."""
    data = discs(3)
    data.labels[1] = 1 - data.labels[1]
    data.labels[2, :, :16] = -1
    found = score(IEM(IEM.Config(), 3, 2), [data], 2, torch.device("cpu"))
    given, better = found["mask"], found["mask, better side (oracle)"]
    assert better.accuracy > 0.97
    assert given.accuracy == pytest.approx(0.6, abs=0.03)  # 1 ½ right of 2 ½
    assert given.confusion.sum() == better.confusion.sum() == 2.5 * 32 * 32


def test_more_classes_than_two_are_matched():
    """Foreground is then one of them, whichever fits."""
    data = discs(2)
    data.labels[:, :4] = 2
    found = score(IEM(IEM.Config(), 3, 3), [data], 3, torch.device("cpu"))["mask"]
    assert found.mapping.tolist() == [0, 1]
    data.labels.copy_((1 - data.labels).clamp(min=0))
    assert score(IEM(IEM.Config(), 3, 3), [data], 3, torch.device("cpu"))["mask"].accuracy > 0.8
    found = score(IEM(IEM.Config(), 3, 3), [data], 2, torch.device("cpu"))["mask"]
    assert found.accuracy < 0.2
