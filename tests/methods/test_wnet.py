"""W-Net: a soft cut, and the picture drawn again."""

import dataclasses

import pytest
import torch

import fastseg
from tests.methods.samples import batch, shapes, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def method(**options):
    return tiny("wnet", **options)


def test_the_loss_is_reconstruction_and_cut():
    model, data = method(lamb=0.25, radius=3).eval(), batch()
    with torch.no_grad():
        parts = model.loss(data, 0.0)
        p = model.encoder(data.images).softmax(1)
        error = (model.decoder(p) - data.images).square().sum(1)[data.valid].mean().item()
        cut = fastseg.soft_ncut(p * data.valid[:, None], data.images, 3, 10.0, 4.0).mean().item()
    assert parts["reconstruction"].item() == pytest.approx(error, rel=1e-5)
    assert parts["cut"].item() == pytest.approx(cut, rel=1e-5)
    assert parts["loss"].item() == pytest.approx(error + 0.25 * cut, rel=1e-5)


def test_both_networks_have_a_gradient():
    model = method()
    model.loss(batch(), 0.0)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_it_learns():
    """To cut less, and to draw again what it has cut."""
    model = method()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    steps = []
    for step in range(40):
        parts = model.loss(shapes(8, step), 0.0)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        steps.append((parts["reconstruction"].item(), parts["cut"].item()))
    first, last = (torch.tensor(part).mean(0) for part in (steps[:5], steps[-5:]))
    assert (last < first / 2).all()


def test_no_label_is_seen():
    model, data = method().eval(), batch(labels=True)
    with torch.no_grad():
        losses = [
            model.loss(each, 0.0)["loss"].item()
            for each in (data, dataclasses.replace(data, labels=None))
        ]
    assert losses[0] == losses[1]
