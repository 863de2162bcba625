"""The baselines, and the list of methods."""

import dataclasses
import math
import sys

import pytest
import torch
import torch.nn.functional as F

import fastseg
from fastseg.methods import METHODS, KMeans, Method, Random, Supervised
from tests.methods.samples import batch, part

pytestmark = pytest.mark.usefixtures("one_thread")


def make(kind, classes=2, channels=3, **options):
    torch.manual_seed(0)
    return kind(kind.Config(**options), channels, classes)


def accuracy(model, data):
    metrics = fastseg.SegmentationMetrics(model.clusters, 2)
    with torch.no_grad():
        metrics.update(model.eval().predict(data)["pixel"], data.labels)
    return metrics.compute().accuracy


def test_the_list_of_methods():
    names = [name for name in METHODS if name != "tiny"]  # which tests of training add
    assert names == sorted(names)
    assert {"iic", "inmars", "kmeans", "random", "supervised"} <= set(METHODS)
    for name, kind in METHODS.items():
        assert issubclass(kind, Method)
        with pytest.raises(dataclasses.FrozenInstanceError):
            kind.Config().batch_size = 1
        assert {field.name for field in dataclasses.fields(kind.Config)} >= (
            {"lr", "batch_size", "epochs"} if kind.gradient else {"batch_size"}
        )
        assert kind.supervised == (name == "supervised")
        config = kind.Config()
        assert type(config)(**dataclasses.asdict(config)) == config


@pytest.mark.parametrize("backbone", ["vgg", "unet", "hourglass"])
def test_a_random_network(backbone):
    model = make(Random, backbone=backbone, width=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.fit([batch()])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    maps = model.eval().predict(batch())
    assert maps["pixel"].shape == (2, 32, 32)
    with pytest.raises(NotImplementedError, match="Random has no loss"):
        model.loss(batch(), 0.0)


def test_k_means_of_colours():
    model = make(KMeans)
    data = batch(labels=True)
    assert model.centres.isnan().all()
    model.fit([part(data, slice(0, 1)), part(data, slice(1, 2))])
    assert accuracy(model, data) > 0.99
    centres = model.centres[model.centres[:, 0].argsort()]
    for value, centre in zip((0.11, 0.81), centres, strict=True):
        assert torch.allclose(centre, torch.full((3,), value), atol=0.05)
    # The nearest, pixel by pixel.
    pixels = data.images.movedim(1, -1).flatten(0, 2)
    nearest = torch.cdist(pixels, model.centres).argmin(1)
    assert torch.equal(model.predict(data)["pixel"].flatten(), nearest)
    # All is in the state.
    other = make(KMeans)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.predict(data)["pixel"], model.predict(data)["pixel"])
    with pytest.raises(NotImplementedError, match="KMeans has no loss"):
        model.loss(data, 0.0)


def test_k_means_of_features():
    model = make(KMeans, features="network", width=4, depth=8)
    model.fit([batch()])
    assert model.centres.shape == (2, 8)
    maps = model.predict(batch())
    assert maps["pixel"].unique().tolist() == [0, 1]
    assert make(KMeans, features="network", backbone="hourglass", width=8).multiple == 16
    assert make(KMeans, backbone="hourglass").multiple == 1


def test_k_means_sees_valid_pixels_of_as_many_pictures_as_it_may():
    data = batch(4)
    spoilt = data.images.masked_fill(~data.valid[:, None], 5)
    spoilt[2:] = -3
    model = make(KMeans, classes=4, limit=2)
    model.fit([dataclasses.replace(data, images=spoilt)])
    assert 0 <= model.centres.min()
    assert model.centres.max() <= 1
    model.fit([part(dataclasses.replace(data, images=spoilt), slice(i, i + 1)) for i in range(4)])
    assert 0 <= model.centres.min()
    again = make(KMeans, classes=4, limit=2)
    again.fit([dataclasses.replace(data, images=spoilt)])
    assert torch.equal(again.centres, model.centres)


def test_k_means_without_pixels_or_scikit_learn(monkeypatch):
    data = batch()
    nothing = dataclasses.replace(data, valid=torch.zeros_like(data.valid))
    for batches in ([], [nothing]):
        with pytest.raises(ValueError, match="`batches` must have at least 2 valid pixels, got 0"):
            make(KMeans).fit(batches)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r"K-means needs scikit-learn: pip install 'fastseg\[t"):
        make(KMeans).fit([data])


def test_the_supervised_loss_is_the_cross_entropy_of_valid_pixels():
    model = make(Supervised, width=4).eval()
    data = batch(labels=True)
    data.labels[:, 20:] = -1
    with torch.no_grad():
        scores = model.network(data.images)
        loss = model.loss(data, 0.0)["loss"].item()
        spoilt = data.labels.masked_fill(~data.valid, 1)
        assert model.loss(dataclasses.replace(data, labels=spoilt), 0.0)["loss"].item() == loss
    counted = data.valid & (data.labels >= 0)
    pixels = scores.movedim(1, -1)[counted]
    assert loss == pytest.approx(F.cross_entropy(pixels, data.labels[counted]).item(), rel=1e-5)
    nothing = dataclasses.replace(data, labels=torch.full_like(data.labels, -1))
    assert model.loss(nothing, 0.0)["loss"] == 0
    with pytest.raises(ValueError, match="`batch` must have labels for a supervised method"):
        model.loss(dataclasses.replace(data, labels=None), 0.0)
    assert not math.isnan(model.lr(3))
    assert model.lr(1) == pytest.approx(0.96 * model.lr(0))
    with pytest.raises(NotImplementedError, match="Supervised learns by its loss"):
        model.fit([data])


def test_the_supervised_network_learns():
    model = make(Supervised, width=4, lr=1e-2)
    data = batch(4, labels=True)
    optimizer = model.optimizer()
    for _ in range(30):
        optimizer.zero_grad()
        model.loss(data, 0.0)["loss"].backward()
        optimizer.step()
    assert accuracy(model, data) > 0.95
