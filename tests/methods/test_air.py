"""AIR: segments drawn again, each by an autoencoder of its own."""

import dataclasses

import pytest
import torch

from fastseg.methods import AIR
from tests.methods.samples import batch, shapes, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def method(**options):
    return tiny("air", **options)


def test_defaults_are_the_published_ones():
    config = AIR.Config()
    assert (config.lr, config.batch_size, config.epochs, config.dropout) == (1e-3, 40, 170, 0.4)


def test_each_segment_has_an_autoencoder_with_a_bottleneck():
    model = method(classes=3, hidden=(16, 8), bottleneck=2)
    assert len(model.autoencoders) == 3
    widths = [layer.out_features for layer in model.autoencoders[0].layers
              if isinstance(layer, torch.nn.Linear)]  # fmt: skip
    assert widths == [16, 8, 2, 8, 16, 3 * 32 * 32]
    weights = [net.layers[0].weight for net in model.autoencoders]
    assert not torch.equal(weights[0], weights[1])


def test_the_reconstruction_is_put_together_from_the_segments():
    """Pixel by pixel: of the segment it is in, and nothing where it is in none."""
    model, data = method(classes=3).eval(), batch()
    with torch.no_grad():
        drawn = model.reconstruct(data)
        labels = model.segmenter(data.images).argmax(1)
        each = []
        for k, net in enumerate(model.autoencoders):
            mask = (labels == k) & data.valid
            each.append(net(((data.images - 0.5) * mask[:, None]).flatten(1)).view_as(data.images))
    expected = torch.stack(each, 1).gather(1, labels[:, None, None].expand(-1, 1, 3, -1, -1))[:, 0]
    assert torch.allclose(drawn, expected * data.valid[:, None], atol=1e-6)
    loss = model.loss(data, 0.0)["loss"].item()
    error = (drawn - data.images).square().sum(1)[data.valid].mean().item()
    assert loss == pytest.approx(error, rel=1e-5)


def test_no_gradient_goes_through_what_is_asked_for():
    """Where autoencoders see nothing, the UNet has none at all."""
    model, data = method().eval(), batch()
    with torch.no_grad():
        for net in model.autoencoders:
            net.layers[0].weight.zero_()
    model.loss(data, 0.0)["loss"].backward()
    assert all((p.grad == 0).all() for p in model.segmenter.parameters())
    model.config = dataclasses.replace(model.config, through=True)
    model.loss(data, 0.0)["loss"].backward()
    assert any((p.grad != 0).any() for p in model.segmenter.parameters())
    model = method().eval()
    model.loss(data, 0.0)["loss"].backward()
    assert any((p.grad != 0).any() for p in model.segmenter.parameters())


def test_it_learns():
    model = method()
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for step in range(25):
        loss = model.loss(shapes(8, step), 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5]) / 2
