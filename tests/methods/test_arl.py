"""ARL: InfoNCE of two ordered views, and clusters of whitened features."""

import dataclasses

import numpy as np
import pytest
import torch

import fastseg
from fastseg.methods import ARL
from tests.methods.samples import batch, halves, part

pytestmark = pytest.mark.usefixtures("one_thread")


def method(classes=2, **options):
    torch.manual_seed(0)
    defaults = {"widths": (8, 8, 8, 8, 8), "stride": 2, "positions": 16, "dimensions": 12}
    return ARL(ARL.Config(**{**defaults, **options}), 3, classes)


def test_defaults_are_the_published_ones():
    config = ARL.Config()
    assert (config.lr, config.variant, config.stride) == (1e-5, "F2", 4)


@pytest.mark.parametrize("transform", ["none", "all"])
def test_the_loss_is_infonce_of_the_critics(transform):
    model = method(transform=transform, radius=2).eval()
    data = batch(3)
    torch.manual_seed(5)
    loss = model.loss(data, 0.0)["loss"]
    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    y, y2 = model.views(data, decode=False)
    assert y.shape == (3, 8, 16, 16)
    a, b = model.critics[0](y), model.critics[1](y2)
    assert a.shape == (3, 12, 16, 16)
    assert loss == fastseg.info_nce(a, b, 16, 2, generator)
    loss.backward()
    frozen = {name for name, p in model.named_parameters() if p.grad is None}
    assert frozen == {"network.decoder.weight", "network.decoder.bias"}


def test_clusters_are_k_means_of_whitened_features():
    """With every step by NumPy; the decoder is whitening and comparison in one."""
    model = method(classes=3, components=4, pixels=64).train()
    data = batch(4)
    batches = [part(data, slice(0, 1)), part(data, slice(1, 4))]
    model.prepare(batches)
    assert model.training
    model.eval()
    with torch.no_grad():
        features = model.features(data)
        scores = model.network(data.images)
    assert features.shape == (4, 8, 16, 16)
    from fastseg.methods.clustering import k_means, sample

    x = sample(model.features, batches, 64, 1000)[0].detach().double().numpy()
    values, vectors = np.linalg.eigh(np.cov(x.T))
    whitening = vectors[:, -4:] / np.sqrt(np.maximum(values[-4:], 1e-6 * values[-1]))
    z = torch.from_numpy((x - x.mean(0)) @ whitening)
    assert z.std(0).tolist() == pytest.approx([1] * 4, abs=0.3)
    centres = k_means(z, 3, 10)
    pixels = features.movedim(1, -1).flatten(0, 2).double().numpy()
    nearest = torch.cdist(torch.from_numpy((pixels - x.mean(0)) @ whitening), centres).argmin(1)
    of_grid = model.network.decoder(features).argmax(1).flatten()
    # Eigenvectors have any sign, which changes no distance, but the centres' order may differ.
    table = fastseg.SegmentationMetrics(3, 3)
    table.update(of_grid, nearest)
    assert table.compute().accuracy > 0.99
    assert torch.equal(model.predict(data)["pixel"], scores.argmax(1))
    # All is in the state.
    other = method(classes=3)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval().predict(data)["pixel"], scores.argmax(1))


def test_it_prepares_from_valid_pixels_of_as_many_pictures_as_it_may():
    data = batch(4)
    seen = []

    def watched():
        for i in range(4):
            seen.append(i)
            yield part(data, slice(i, i + 1))

    method(limit=2).prepare(watched())
    assert seen == [0, 1]
    nothing = dataclasses.replace(data, valid=torch.zeros_like(data.valid))
    with pytest.raises(ValueError, match="`batches` must have at least 2 valid pixels, got 0"):
        method().prepare([nothing])


def test_it_learns_features_that_tell_dark_from_bright():
    way = {"variant": "F3", "sampling": "hard", "transform": "rotation"}
    model = method(classes=2, lr=3e-3, components=4, **way)
    data = halves(8, 32)
    training = dataclasses.replace(data, labels=None)
    optimizer = model.optimizer()
    losses = []
    for step in range(50):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = model.loss(training, 0.0)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.1
    model.prepare([training])
    metrics = fastseg.SegmentationMetrics(2, 2)
    with torch.no_grad():
        metrics.update(model.eval().predict(data)["pixel"], data.labels)
    assert metrics.compute().accuracy > 0.8


def test_one_picture_has_no_negatives():
    with pytest.raises(ValueError, match=r"`y` must hold at least 2 images, .* got 1"):
        method().loss(batch(1), 0.0)
