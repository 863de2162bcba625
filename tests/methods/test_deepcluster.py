"""DeepCluster: clusters that an epoch learns from, and those that it is scored by."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fastseg.methods.deepcluster import Clusters
from tests.methods.samples import batch, halves, part, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def made(**options) -> Any:
    return tiny("deepcluster", **options)


def test_clusters_are_the_nearest_of_whitened_unit_vectors():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=rng) * torch.tensor([9.0, 3.0, 1.0, 1.0, 0.1]) + 4
    clusters = Clusters(3, 5, 4)
    clusters.fit(x, 2)
    z = (x - clusters.mean) @ clusters.matrix
    assert torch.allclose(z.T.cov(correction=0), torch.eye(4), atol=1e-3)
    nearest = torch.cdist(F.normalize(z), clusters.centres).argmin(1)
    assert torch.equal(clusters(x.T.reshape(1, 5, 20, 20)).flatten(), nearest)
    assert len(nearest.unique()) == 3


def test_labels_are_those_of_the_epochs_beginning():
    model, data = made(), batch(4)
    model.renew([data])
    labels = model.lesson(model.teacher.eval()(data.images))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = model.optimizer()
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        model.loss(data, 0.0)["loss"].backward()
        optimizer.step()
    after = model.state_dict()
    changed = {name.partition(".")[0] for name in after if not after[name].equal(before[name])}
    assert changed == {"network", "classifier"}
    assert torch.equal(model.lesson(model.teacher.eval()(data.images)), labels)
    model.renew([data])
    changed = {name for name in after if not model.state_dict()[name].equal(before[name])}
    assert any(name.startswith("teacher") for name in changed)
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_the_loss_is_the_cross_entropy_of_the_valid_pixels_clusters():
    model, data = made(brightness=0, contrast=0, saturation=0, hue=0), batch(4)
    model.renew([data])
    model.eval()
    with torch.no_grad():
        loss = model.loss(data, 0.0)["loss"].item()
        scores = model.classifier(model.network(data.images)).movedim(1, -1)[data.valid]
        labels = model.lesson(model.teacher(data.images))[data.valid]
    assert loss == pytest.approx(F.cross_entropy(scores, labels).item(), rel=1e-5)
    nothing = dataclasses.replace(data, valid=torch.zeros_like(data.valid))
    assert model.loss(nothing, 0.0)["loss"] == 0


def test_it_learns_the_clusters_and_is_scored_by_as_many_as_classes():
    model, data = made(lr=1e-2, hue=0), halves(4)
    optimizer = model.optimizer()
    model.renew([part(data, slice(0, 2)), part(data, slice(2, 4))])
    model.train()
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(data, 0.0)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        labels = model.lesson(model.teacher(data.images))
        found = model.classifier(model.network(data.images)).argmax(1)
    assert len(labels.unique()) == 3
    assert (found == labels)[data.valid].float().mean() > 0.8
    model.prepare([data])
    assert model.training
    with torch.no_grad():
        assert model.eval().predict(data)["pixel"].unique().tolist() == [0, 1]


def test_there_must_be_as_many_pixels_as_clusters():
    data = batch()
    nothing = dataclasses.replace(data, valid=torch.zeros_like(data.valid))
    with pytest.raises(ValueError, match="`batches` must have at least 3 valid pixels, got 0"):
        made().renew([nothing])
    assert len(made(pseudo_classes=0).lesson.centres) == 20
