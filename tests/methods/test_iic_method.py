"""IIC: its loss on two views, head by head."""

import dataclasses

import pytest
import torch

import fastseg
from fastseg.methods import IIC
from fastseg.methods.views import flip, jitter, sobel
from tests.methods.samples import batch

pytestmark = pytest.mark.usefixtures("one_thread")

STILL = dict.fromkeys(("brightness", "contrast", "saturation", "hue", "flips"), 0.0)


def method(classes=3, channels=3, **options):
    torch.manual_seed(0)
    defaults = {"width": 4, "radius": 2, "overclusters": 5, "epochs": 4}
    return IIC(IIC.Config(**{**defaults, **options}), channels, classes)


def numbers(parts):
    return {name: part.item() for name, part in parts.items()}


def test_defaults_are_the_published_ones():
    config = IIC.Config()
    assert (config.lr, config.batch_size, config.overclusters) == (1e-4, 120, 15)
    assert (config.lamb, config.radius, config.sobel, config.alternate) == (1.5, 10, "beside", True)
    jitters = config.brightness, config.contrast, config.saturation, config.hue
    assert jitters == (0.4, 0.4, 0.4, 0.125)


@pytest.mark.parametrize("backbone", ["vgg", "hourglass", "unet"])
@pytest.mark.parametrize("edges", ["none", "beside", "alone"])
def test_it_learns_and_predicts(backbone, edges):
    model = method(backbone=backbone, sobel=edges, alternate=False, channels=4)
    model.loss(batch(channels=4), 0.0)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert model.multiple == (16 if backbone == "hourglass" else 1)
    with torch.no_grad():
        maps = model.eval().predict(batch(channels=4))
    assert tuple(maps) == model.variants
    assert maps["pixel"].shape == (2, 32, 32)
    assert 0 <= maps["pixel"].min()
    assert maps["pixel"].max() < model.clusters == 3


def loss_by_hand(p, q, radius, lamb, valid):
    """Displacement by displacement and pixel by pixel."""
    p, q = p * valid[:, None], q * valid[:, None]
    size = p.shape[2]
    losses = []
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            joint = torch.zeros(p.shape[1], q.shape[1], dtype=p.dtype)
            for y in range(max(0, -dy), min(size, size - dy)):
                for x in range(max(0, -dx), min(size, size - dx)):
                    joint += torch.einsum("bk,bl->kl", p[:, :, y, x], q[:, :, y + dy, x + dx])
            joint = (joint + joint.T) / joint.sum() / 2
            rows, columns = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
            each = joint * (joint.log() - lamb * rows.log() - lamb * columns.log())
            losses.append(-each.sum())
    return torch.stack(losses).mean()


def test_the_loss_is_the_papers():
    model = method(radius=1, alternate=False).double().eval()
    data = batch(size=(12, 12))
    data = dataclasses.replace(data, images=data.images.double())
    seeds = data.seeds
    with torch.no_grad():
        parts = model.loss(data, 0.0)
        second = flip(jitter(data.images, seeds), seeds)
        views = [model.network(torch.cat((x, sobel(x)), 1)) for x in (data.images, second)]
        views[1] = flip(views[1], seeds)
    expected = []
    for name, channels in (("A", slice(0, 5)), ("B", slice(5, 8))):
        p, q = (scores[:, channels].softmax(1) for scores in views)
        expected.append(loss_by_hand(p, q, 1, 1.5, data.valid).item())
        assert parts[name].item() == pytest.approx(expected[-1], rel=1e-9)
    assert parts["loss"].item() == pytest.approx(sum(expected) / 2, rel=1e-9)


def test_derivatives_alone_do_not_show_colours():
    """A shade added to a picture changes nothing, unlike where colours are seen."""
    images = batch().images
    for edges, blind in (("alone", True), ("beside", False), ("none", False)):
        model = method(sobel=edges, alternate=False).eval()
        with torch.no_grad():
            model.network.scores.weight *= 1000  # a tiny network says little
            first, second = (torch.cat(model._scores(x), 1) for x in (images, images + 0.25))
        assert torch.allclose(first, second, atol=1e-2) == blind, edges


def test_some_second_views_are_mirrored():
    seeds = batch().seeds
    assert (flip(seeds[:, None] * torch.arange(2), seeds)[:, 0] != 0).any()


def test_heads_take_turns():
    model = method()
    data = batch()
    for epoch in range(4):
        parts = model.loss(data, epoch / 4)
        assert set(parts) == {"loss", "AB"[epoch % 2]}
        assert parts["loss"].item() == parts["AB"[epoch % 2]].item()
    # The resting head's scores have no gradient.
    model.loss(data, 0.25)["loss"].backward()
    assert (model.network.scores.weight.grad[:5] == 0).all()
    assert (model.network.scores.weight.grad[5:] != 0).any()
    for epochs in (3, 7, 100, 4800):
        model.config = dataclasses.replace(model.config, epochs=epochs)
        last = model.loss(data, (epochs - 1) / epochs)
        assert "AB"[(epochs - 1) % 2] in last


def test_views_that_are_alike_agree():
    """With one view twice the loss is that of the picture with itself."""
    model = method(alternate=False, **STILL).eval()
    data = batch()
    p = model.network(torch.cat((data.images, sobel(data.images)), 1))[:, 5:].softmax(1)
    expected = fastseg.iic_loss(p, p, 2, 1.5, data.valid).item()
    assert model.loss(data, 0.0)["B"].item() == pytest.approx(expected, abs=1e-6)
    # Mirroring is undone: a network that sees single pixels gives the same.
    model = method(alternate=False, sobel="none", **{**STILL, "flips": 1.0}).eval()
    model.network = torch.nn.Conv2d(3, 8, 1)
    p = model.network(data.images)[:, 5:].softmax(1)
    expected = fastseg.iic_loss(p, p, 2, 1.5, data.valid).item()
    assert model.loss(data, 0.0)["B"].item() == pytest.approx(expected, abs=1e-6)


def test_invalid_pixels_do_not_count():
    model = method(alternate=False, sobel="none", **STILL).eval()
    model.network = torch.nn.Conv2d(3, 8, 1)
    data = batch()
    other = data.images.masked_fill(~data.valid[:, None], 0.3)
    results = [
        numbers(model.loss(dataclasses.replace(data, images=x), 0.0)) for x in (data.images, other)
    ]
    assert results[0] == pytest.approx(results[1], abs=1e-6)
    nothing = dataclasses.replace(data, valid=torch.zeros_like(data.valid))
    assert model.loss(nothing, 0.0)["loss"] == 0


def test_no_label_is_seen():
    model = method().eval()
    data = batch(labels=True)
    without = dataclasses.replace(data, labels=None)
    assert numbers(model.loss(data, 0.0)) == numbers(model.loss(without, 0.0))


def test_the_same_seeds_give_the_same_loss():
    model = method().eval()
    data = batch()
    first = numbers(model.loss(data, 0.0))
    torch.manual_seed(1)
    assert numbers(model.loss(data, 0.0)) == first
    other = dataclasses.replace(data, seeds=data.seeds + 1)
    assert numbers(model.loss(other, 0.0)) != first


def test_what_iic_refuses():
    with pytest.raises(ValueError, match="`backbone` must be one of 'hourglass', 'unet', 'vgg'"):
        method(backbone="resnet")
    with pytest.raises(ValueError, match="`sobel` must be one of 'none', 'beside', 'alone', got"):
        method(sobel=True)
    with pytest.raises(ValueError, match="`radius` must be less than"):
        method(radius=32).loss(batch(), 0.0)
