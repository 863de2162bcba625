"""The autoencoder study: eight layers, and how far the codes of classes are apart."""

import dataclasses
import json

import pytest
import torch
from PIL import Image

from fastseg.methods import Autoencoder
from fastseg.train import TrainConfig, train
from tests.methods.samples import OPTIONS, batch, shapes, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def method(**options):
    return tiny("autoencoder", **options)


def test_eight_layers_and_the_published_training():
    config = Autoencoder.Config()
    assert (config.epochs, config.dropout, config.side) == (50, 0.2, 32)
    model = Autoencoder(dataclasses.replace(config, bottleneck=48), 3, 10)
    shapes = [
        (layer.in_features, layer.out_features)
        for layer in model.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    assert len(shapes) == 8
    assert shapes[0][0] == shapes[-1][1] == 3072
    assert shapes[3][1] == shapes[4][0] == 48
    assert model.clusters == 48


def test_the_loss_is_the_squared_error():
    model, data = method().eval(), shapes(3)
    drawn = model.decoder(model.encoder(data.images.flatten(1)))
    expected = (drawn - data.images.flatten(1)).square().mean().item()
    assert model.loss(data, 0.0)["loss"].item() == pytest.approx(expected, rel=1e-6)


def test_alpha2_by_hand():
    """Codes 0 and 2, 4 and 4 of two classes: their means are 1 and 4, 1.5 from 2.5 each."""
    model = method()
    model.encoder = torch.nn.Module()
    model.encoder.forward = lambda x: x[:, :1]
    data = shapes(4)
    data.images[:, 0, 0, 0] = torch.tensor([0.0, 4.0, 2.0, 4.0])
    keys = "train/cat/1", "train/dog/1", "train/cat/2", "train/dog/2"
    parts = [
        dataclasses.replace(data, images=data.images[i : i + 2], keys=keys[i : i + 2],
                            valid=data.valid[i : i + 2])
        for i in (0, 2)
    ]  # fmt: skip
    assert model.measure(parts) == pytest.approx({"alpha2": 4.5, "alpha2_per_number": 4.5 / 4})


def test_pictures_of_other_sizes_are_brought_to_one():
    model = method().eval()
    assert model.predict(batch(size=(48, 64)))["picture"].shape == (2, 48, 64)
    large = shapes(2)
    twice = large.images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    codes = [
        model.encoder(model._pictures(each))
        for each in (large, dataclasses.replace(large, images=twice, valid=valid))
    ]
    torch.testing.assert_close(*codes)


def test_a_picture_is_one_segment():
    labels = method().eval().predict(shapes(5))["picture"]
    assert labels.shape == (5, 32, 32)
    assert (labels == labels[:, :1, :1]).all()
    assert 0 <= labels.min()
    assert labels.max() < 4


def test_a_run_tells_alpha2_of_the_test_split(tmp_path):
    """Of pictures without truth; after each epoch."""
    for split in ("train", "test"):
        for kind, colour in (("sea", (20, 60, 200)), ("fire", (220, 60, 20))):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
            for i in range(4):
                image = Image.new("RGB", (32, 32), tuple(c + 3 * i for c in colour))
                image.save(tmp_path / "data" / split / kind / f"{i}.png")
    config = Autoencoder.Config(**OPTIONS["autoencoder"], batch_size=4, epochs=3)
    options = TrainConfig(
        f"folder:{tmp_path}/data", str(tmp_path / "run"), classes=2, tensorboard=True, device="cpu"
    )
    train("autoencoder", config, options)
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    values = [line["measures"]["alpha2"] for line in lines]
    assert len(set(values)) == 3
    assert all(value > 0 for value in values)
    assert not any("scores" in line for line in lines)
