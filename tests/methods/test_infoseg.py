"""InfoSeg: its loss by the paper's formulas, its ablations, and that it finds classes."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

import fastseg
from fastseg.methods import InfoSeg
from fastseg.methods.views import flip, jitter
from tests.methods.samples import batch

pytestmark = pytest.mark.usefixtures("one_thread")

WAYS = [(e, a) for e in ("jsd", "dv") for a in ("soft", "hard")]


def method(classes=3, channels=3, **options):
    torch.manual_seed(0)
    config = InfoSeg.Config(**{"width": 4, "features": 16, **options})
    return InfoSeg(config, channels, classes)


def loss_of(model, data):
    torch.manual_seed(0)
    return model.loss(data, 0.0)["loss"]


def test_defaults_are_the_published_ones():
    config = InfoSeg.Config()
    assert (config.lr, config.batch_size, config.features, config.tau) == (1e-4, 64, 1024, 0.8)
    assert (config.objective, config.assignment) == ("jsd", "soft")
    assert isinstance(InfoSeg(config, 3, 3).optimizer(), torch.optim.Adam)


@pytest.mark.parametrize("objective", ["jsd", "dv", "iic"])
def test_every_weight_learns_and_every_pixel_gets_a_cluster(objective):
    model = method(objective=objective, channels=4)
    loss_of(model, batch(channels=4)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    with torch.no_grad():
        maps = model.eval().predict(batch(channels=4))
    assert tuple(maps) == model.variants
    for labels in maps.values():
        assert labels.shape == (2, 32, 32)
        assert 0 <= labels.min()
        assert labels.max() < model.clusters == 3


def straightforward(model, data, estimator, assignment):
    """Eq. 3–8 pixel by pixel; two pictures are each other's partner."""
    local, glob = model.network.features(data.images)
    weights = F.avg_pool2d(data.valid[:, None].double(), 4)[:, 0]
    totals: dict[str, list[torch.Tensor]] = {"joint": [], "marginal": []}
    for i in range(local.shape[2]):
        for j in range(local.shape[3]):
            features = local[:, :, i, j]  # (2,P)
            scores = torch.stack([glob[b] @ features[b] for b in (0, 1)])
            share = (0.8 * scores).softmax(1)
            if assignment == "hard":
                share = F.one_hot(scores.argmax(1), 3).double()
            assigned = torch.stack([share[b] @ glob[b] for b in (0, 1)])
            joint = (features * assigned).sum(1)
            marginal = (features * assigned.flip(0)).sum(1)
            own = weights[:, i, j]
            both = own.prod()
            if estimator == "jsd":
                joint, marginal = F.softplus(-joint), F.softplus(marginal)
                totals["joint"].append(torch.stack(((joint * own).sum(), own.sum())))
                totals["marginal"].append(torch.stack((marginal.sum() * both, 2 * both)))
            elif both > 0:
                joint, total = (-joint * own).sum(), own.sum()
                totals["joint"].append(torch.stack((joint, total)))
                bound = marginal.exp().mean().log()
                totals["marginal"].append(torch.stack((bound * total, total)))
            else:
                totals["joint"].append(torch.stack(((-joint * own).sum(), own.sum())))
    sums = [torch.stack(rows).sum(0) for rows in totals.values()]
    return sum(total / weight for total, weight in sums)


@pytest.mark.parametrize(("estimator", "assignment"), WAYS)
def test_the_loss_is_the_papers(estimator, assignment):
    """With pixels that do not count: here rows of patches, parts of them, and one picture's."""
    model = method(objective=estimator, assignment=assignment).double().eval()
    data = batch(size=(16, 20))
    data.valid[0, 12:] = False
    data = dataclasses.replace(data, images=data.images.double())
    loss = loss_of(model, data)
    expected = straightforward(model, data, estimator, assignment)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = [
        torch.autograd.grad(x, tuple(model.parameters()), allow_unused=True)
        for x in (loss, expected)
    ]
    for ours, plain in zip(*gradients, strict=True):
        assert torch.allclose(ours, plain, rtol=1e-5, atol=1e-8)


def test_the_ablation_is_iics_loss_of_the_class_probabilities():
    model = method(objective="iic", radius=1).eval()
    data = batch()
    local_global = model.network.features

    def probabilities(images):
        return (0.8 * fastseg.local_global_scores(*local_global(images))).softmax(1)

    other = jitter(data.images, data.seeds)
    p = probabilities(data.images)
    q = flip(probabilities(flip(other, data.seeds)), data.seeds)
    mask = data.valid[:, ::4, ::4].clone()
    mask[:, 0] = False  # three of its four rows
    expected = fastseg.iic_loss(p, q, 1, 1.5, mask)
    assert loss_of(model, data).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("objective", ["jsd", "dv", "iic"])
def test_labels_and_pixels_that_do_not_count_change_nothing(objective):
    model = method(objective=objective).eval()
    data = batch(labels=True)
    loss = loss_of(model, data).item()
    assert loss == loss_of(model, dataclasses.replace(data, labels=None)).item()
    nothing = dataclasses.replace(data, valid=torch.zeros_like(data.valid))
    assert loss_of(model, nothing).item() == 0
    loss_of(model, nothing).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_labels_are_enlarged():
    model = method().eval()
    data = batch()
    with torch.no_grad():
        small = fastseg.local_global_scores(*model.network.features(data.images)).argmax(1)
        maps = model.predict(data)
    enlarged = small.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(maps["nearest"], enlarged)


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_it_finds_an_object_that_is_elsewhere_in_each_picture(assignment):
    rng = torch.Generator().manual_seed(0)
    truth = torch.zeros(16, 64, 64, dtype=torch.int64)
    for picture in truth:
        top, left = (4 * torch.randint(0, 9, (2,), generator=rng)).tolist()
        picture[top : top + 32, left : left + 32] = 1
    images = torch.rand((16, 3, 64, 64), generator=rng) / 10 + 0.6 * truth[:, None]
    valid = torch.ones_like(truth, dtype=torch.bool)
    data = dataclasses.replace(batch(16), images=images, labels=truth, valid=valid)
    model = method(2, assignment=assignment, lr=3e-3, kernel=1)
    optimizer = model.optimizer()
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(data, 0.0)["loss"].backward()
        optimizer.step()
    metrics = fastseg.SegmentationMetrics(2, 2)
    with torch.no_grad():
        metrics.update(model.eval().predict(data)["nearest"], truth)
    assert metrics.compute().accuracy > 0.85  # its edge is seen from afar


def test_what_infoseg_refuses():
    with pytest.raises(
        ValueError, match="`objective` must be one of 'jsd', 'dv', 'iic', got 'nce'"
    ):
        method(objective="nce")
    with pytest.raises(ValueError, match="`assignment` must be one of 'soft', 'hard', got 'firm'"):
        loss_of(method(assignment="firm"), batch())
    with pytest.raises(ValueError, match="`L` must hold at least 2 images"):
        loss_of(method(), batch(1))
