"""CIRS: hard segments, what g makes of them, and turns."""

import dataclasses
from typing import Any

import pytest
import torch

from fastseg.methods import CIRS
from fastseg.methods.cirs import Segmenter, between_classes, class_means, within_classes
from tests.methods.samples import batch, shapes, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def method(**options):
    return tiny("cirs", **options)


def test_defaults_are_the_published_ones():
    config = CIRS.Config()
    assert (config.lr, config.batch_size, config.epochs) == (1e-3, 40, 170)
    assert (config.dropout, config.turns) == (0.4, (5, 100))
    assert method().variants == ("pixel",)


def test_the_objective_by_hand():
    """Two pictures, two segments, features of two numbers."""
    features = torch.tensor([[[1.0, 0.0], [4.0, 4.0]], [[3.0, 0.0], [4.0, 6.0]]])
    means = class_means(features)
    assert means.tolist() == [[2.0, 0.0], [4.0, 5.0]]
    assert within_classes(features, means).item() == (1 + 1 + 1 + 1) / 2
    assert between_classes(means).item() == 2 * (1 + 2.5**2)


def loss_by_hand(model, data):
    """Picture by picture and segment by segment, as §5 and §6 have it."""
    scores = model.segmenter(data.images)
    rows = []
    for image, valid, labels in zip(data.images, data.valid, scores.argmax(1), strict=True):
        for k in range(model.classes):
            seen = torch.where(valid & (labels == k), image - 0.5, 0)
            rows.append(torch.cat((seen.flatten(), torch.tensor([float(k)]).to(seen))))
    g = model.g(torch.stack(rows)).view(len(data.images), model.classes, -1)
    within = sum((g[:, k] - g[:, k].mean(0)).square().sum() for k in range(model.classes))
    means = [g[:, k].mean(0) for k in range(model.classes)]
    middle = sum(means) / model.classes
    between = sum((mean - middle).square().sum() for mean in means)
    return within / model.classes, between


@pytest.mark.parametrize("training", [False, True])
def test_the_loss_is_the_thesis(training):
    model = method(classes=3, alpha=(0.7, 0.3)).double().train(training)
    data = batch(3)
    data = dataclasses.replace(data, images=data.images.double())
    with torch.no_grad():
        parts = model.loss(data, 0.0)
        within, between = loss_by_hand(model, data)
    assert parts["within"].item() == pytest.approx(within.item(), rel=1e-9)
    assert parts["between"].item() == pytest.approx(between.item(), rel=1e-9)
    expected = 0.7 * within - 0.3 * between
    assert parts["loss"].item() == pytest.approx(expected.item(), rel=1e-9)


def test_features_cannot_grow_without_end():
    """Batch norm has the last word: however large g's weights, both variances stay."""
    model, data = method(), batch(4)
    first = model.loss(data, 0.0)
    with torch.no_grad():
        model.g.layers[-2].weight *= 1000
    second = model.loss(data, 0.0)
    for name, value in first.items():
        assert second[name].item() == pytest.approx(value.item(), rel=0.05, abs=0.05)
    # All numbers together have variance 1.
    count = 4 * 2 * model.config.features
    total = 2 * second["within"] + 4 * second["between"]
    assert total.item() == pytest.approx(count, rel=1e-3)


@pytest.mark.parametrize("name", ["cirs", "air"])
def test_invalid_pixels_do_not_count(name):
    model: Any = tiny(name).eval()
    data = batch()
    # No pixel's score may depend on others.
    model.segmenter.forward = lambda x: torch.cat((x[:, :1] - 0.5, 0.5 - x[:, :1]), 1)
    spoilt = data.images.masked_fill(~data.valid[:, None], 0.9)
    losses = [
        model.loss(dataclasses.replace(data, images=x), 0.0)["loss"].item()
        for x in (data.images, spoilt)
    ]
    assert losses[0] == losses[1]


def test_s_and_g_take_turns():
    model = method(turns=(2, 3))
    assert [next(iter(model.resting(step))) is model.g for step in range(7)] == [
        True, True, False, False, False, True, True,
    ]  # fmt: skip
    (part,) = method(turns=(0, 1)).resting(0)
    assert isinstance(part, Segmenter)
    assert list(method(turns=(0, 0)).resting(5)) == []


def test_both_have_a_gradient():
    model = method()
    model.loss(batch(), 0.0)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert any((p.grad != 0).any() for p in model.segmenter.parameters())


def test_it_learns():
    """In turns, as the loop has it: features of one segment come to be alike, of two apart."""
    model = method(turns=(1, 3))
    optimizer = model.optimizer()
    losses = []
    for step in range(24):
        resting = {p for part in model.resting(step) for p in part.parameters()}
        loss = model.loss(shapes(8, step), 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        for parameter in resting:
            parameter.grad = None
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 5


@pytest.mark.parametrize("name", ["cirs", "air"])
def test_refused_pictures(name):
    with pytest.raises(ValueError, match=r"`batch.images` must have shape \(any, any, 32, 32\)"):
        tiny(name).loss(batch(size=(16, 32)), 0.0)
    # To predict, any will do.
    assert tiny(name).eval().predict(batch(size=(16, 40)))["pixel"].shape == (2, 16, 40)
