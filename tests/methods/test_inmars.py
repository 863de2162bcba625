"""InMARS: its loss by the paper's formulas, and every combination of its parts."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import fastseg
from fastseg.methods import InMARS, inmars
from fastseg.methods.views import gaussian, random_affine, warp, warp_labels
from tests.methods.samples import batch

pytestmark = pytest.mark.usefixtures("one_thread")

VARIANTS = {"superpixel", "backbone", "multiscale"}


def method(classes=3, channels=3, **options):
    torch.manual_seed(0)
    config = InMARS.Config(**{"width": 8, "hidden": (8,), "head": "mean", **options})
    return InMARS(config, channels, classes)


def superpixels(model):
    return model.superpixels[:1]


def numbers(parts):
    return {name: part.item() for name, part in parts.items()}


# --- Combinations ------------------------------------------------------------------------------


@pytest.mark.parametrize("regulariser", ["none", "adv", "geo", "both"])
@pytest.mark.parametrize("head", ["max", "mean", "spp", "resize"])
@pytest.mark.parametrize("backbone", ["hourglass", "unet"])
def test_every_combination_learns_and_predicts(backbone, head, regulariser):
    model = method(backbone=backbone, head=head, regulariser=regulariser)
    parts = model.loss(batch(superpixels=superpixels(model)), 0.0)
    expected = {"adv": {"adv"}, "geo": {"geo"}, "both": {"adv", "geo"}, "none": set()}[regulariser]
    assert set(parts) == {"loss", "marginal", "conditional"} | expected
    assert all(value.isfinite() and value.ndim == 0 for value in parts.values())
    assert [name for name, value in parts.items() if value.requires_grad] == ["loss"]
    parts["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    with torch.no_grad():
        maps = model.eval().predict(batch(superpixels=model.superpixels))
    assert tuple(maps) == model.variants
    for labels in maps.values():
        assert labels.shape == (2, 32, 32)
        assert labels.dtype == torch.int64
        assert labels.min() >= 0
        assert labels.max() < model.clusters == 3


def test_defaults_are_the_papers():
    config = InMARS.Config()
    assert (config.lr, config.decay, config.epochs) == (1e-5, 0.96, 100)
    assert (config.lamb, config.gamma, config.epsilon) == (4, (1, 0.1), 0.25)
    assert (config.backbone, config.head, config.regulariser) == ("hourglass", "spp", "both")
    assert config.compactness == 5
    assert config.segments == "2n"
    model = method(lr=1e-5)
    assert model.lr(0) == 1e-5
    assert model.lr(3) == pytest.approx(1e-5 * 0.96**3)
    assert isinstance(model.optimizer(), torch.optim.Adam)
    assert model.multiple == 16
    assert method(stride=4).multiple == 64
    assert method(backbone="unet").multiple == 1


@pytest.mark.parametrize(
    ("segments", "counts"), [("n", [5, 10, 25]), ("2n", [10, 5, 25]), ("nn", [25, 5, 10])]
)
def test_superpixels_of_training_come_first(segments, counts):
    for finer in (1, 3):
        model = method(classes=5, segments=segments, finer=finer)
        assert model.superpixels == [
            {"n_segments": finer * count, "compactness": 5.0} for count in counts
        ]


# --- The loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [(), (1.0, 2.0, 5.0)])
@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_the_loss_is_the_papers(progress, prior):
    """Eq. 2-6, region by region, of a model without batch statistics."""
    model = method(regulariser="both", prior=prior, finer=8).eval().double()
    data = batch(superpixels=superpixels(model))
    data = dataclasses.replace(data, images=data.images.double())
    parts = model.loss(data, progress)

    def predictions(images, labels):
        """log p of each region by its number: of picture and superpixel."""
        maps = model.network.backbone(images)
        return {
            (b, r): maps[b][:, labels[b] == r].mean(1).log_softmax(0)
            for b in range(len(images))
            for r in labels[b].unique().tolist()
            if r >= 0
        }

    def divergence(p, q):
        both = [key for key in p if key in q]
        each = [(p[key].exp() * (p[key] - q[key])).sum() for key in both]
        return torch.stack(each).mean().item(), len(both)

    labels = data.superpixels[0].masked_fill(~data.valid, -1)
    p = predictions(data.images, labels)
    mean = torch.stack([x.exp() for x in p.values()]).mean(0)
    conditional = -torch.stack([(x.exp() * x).sum() for x in p.values()]).mean()
    marginal = -(mean * mean.log()).sum()
    if prior:
        q = torch.tensor(prior).double()
        marginal = torch.tensor(3.0).log() - (mean * (mean / (q / q.sum())).log()).sum()
    assert parts["marginal"].item() == pytest.approx(marginal.item(), rel=1e-6)
    assert parts["conditional"].item() == pytest.approx(conditional.item())

    affine = random_affine(data.seeds, (32, 32))
    geo, count = divergence(p, predictions(warp(data.images, affine), warp_labels(labels, affine)))
    assert count > 5
    assert parts["geo"].item() == pytest.approx(geo, rel=1e-5)

    x = data.images
    d = gaussian(data.seeds, x)
    d = (10 * d / d.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).requires_grad_()
    far = predictions(x + d, labels)
    g = torch.autograd.grad(sum((p[k].detach().exp() * -far[k]).sum() for k in p), d)[0]
    r = 0.25 * g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    adv, _ = divergence(p, predictions(x + r, labels))
    assert parts["adv"].item() == pytest.approx(adv, rel=1e-5)

    gamma = {0.0: 1, 0.25: 0.775, 1.0: 0.1}[progress]
    expected = (adv + geo) / 2 + 4 * (conditional - gamma * marginal)
    assert parts["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("regulariser", ["none", "adv", "geo"])
def test_a_regulariser_alone_counts_whole(regulariser):
    model = method(regulariser=regulariser)
    parts = numbers(model.loss(batch(superpixels=superpixels(model)), 1.0))
    information = parts["conditional"] - 0.1 * parts["marginal"]
    expected = parts.get(regulariser, 0) + 4 * information
    assert parts["loss"] == pytest.approx(expected, rel=1e-5)


def test_nothing_moved_is_the_same():
    still = dict.fromkeys(("geo_scale", "geo_translate", "geo_rotate", "geo_shear"), 0.0)
    for head in ("max", "mean", "spp", "resize"):
        model = method(head=head, **still)
        assert model.loss(batch(superpixels=superpixels(model)), 0.0)["geo"] < 1e-9
        model = method(head=head, epsilon=0.0)
        assert abs(model.loss(batch(superpixels=superpixels(model)), 0.0)["adv"]) < 1e-6


def test_superpixels_that_left_the_frame_are_left_out(monkeypatch):
    away = torch.tensor([[[1.0, 0, 9], [0, 1, 0]]]).expand(2, -1, -1)
    monkeypatch.setattr(inmars, "random_affine", lambda *_: away)
    model = method(regulariser="geo")
    parts = model.loss(batch(superpixels=superpixels(model)), 0.0)
    assert parts["geo"] == 0
    half = torch.tensor([[[1.0, 0, 1], [0, 1, 0]]]).expand(2, -1, -1)  # the left half leaves
    monkeypatch.setattr(inmars, "random_affine", lambda *_: half)
    data = batch()
    columns = torch.arange(32).expand(2, 32, 32) // 16
    data = dataclasses.replace(data, superpixels=(columns.int(),))
    moved = []

    def remember(target, logits, weights, group):
        moved.append(weights)
        return target.sum()

    monkeypatch.setattr(inmars, "kl_consistency", remember)
    model.loss(data, 0.0)
    assert moved[0].tolist() == [[False, True], [False, True]]


def test_invalid_pixels_do_not_count():
    """Neither of the loss nor of any gradient, with a network that sees only single pixels."""
    model = method(regulariser="both", epsilon=0.25).eval()
    model.network.backbone = nn.Conv2d(3, 3, 1)
    # Whole superpixels are invalid, and the last rows of others; none moves.
    still = dict.fromkeys(("geo_scale", "geo_translate", "geo_rotate", "geo_shear"), 0.0)
    model.config = dataclasses.replace(model.config, **still)
    labels = (torch.arange(32)[:, None] // 8 * 4 + torch.arange(32) // 8).expand(2, 32, 32).int()
    valid = torch.ones(2, 32, 32, dtype=torch.bool)
    valid[:, 6:16] = False
    data = dataclasses.replace(batch(), superpixels=(labels,), valid=valid, regions=())
    other = data.images.clone()
    other[:, :, 7:15] = 0.3
    results = [
        numbers(model.loss(dataclasses.replace(data, images=x), 0.0)) for x in (data.images, other)
    ]
    for name in ("marginal", "conditional"):
        assert results[0][name] == results[1][name]
    assert results[0]["adv"] == pytest.approx(results[1]["adv"], rel=1e-4)
    nothing = dataclasses.replace(data, valid=torch.zeros_like(valid))
    assert all(value == 0 for value in numbers(model.loss(nothing, 0.0)).values())


def test_a_step_reads_nothing_back():
    """No value of a tensor is asked for, which on a GPU would wait for all that is under way."""

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    model, seen = method(regulariser="none"), []
    data, whole = batch(superpixels=superpixels(model)), batch(superpixels=model.superpixels)
    with Watch():
        model.loss(data, 0.5)["loss"].backward()
        model.eval().predict(whole)
    assert torch.ops.aten.convolution.default in seen
    assert torch.ops.aten._local_scalar_dense.default not in seen


def test_superpixels_cut_from_padding_are_ignored():
    model = method()
    data = batch(superpixels=superpixels(model))
    padded = data.superpixels[0].masked_fill(~data.valid, -1)
    first = model.eval().loss(data, 0.0)
    second = model.loss(dataclasses.replace(data, superpixels=(padded,)), 0.0)
    assert numbers(first) == numbers(second)


def test_no_label_is_seen():
    model = method().eval()
    with_labels = batch(superpixels=superpixels(model), labels=True)
    without = dataclasses.replace(with_labels, labels=None)
    assert numbers(model.loss(with_labels, 0.0)) == numbers(model.loss(without, 0.0))


def test_statistics_are_those_of_the_pictures():
    """Batch norm's running statistics follow the plain pass alone."""
    model, alone = method(regulariser="both"), method(regulariser="none")
    data = batch(superpixels=superpixels(model))
    model.loss(data, 0.0)
    alone.loss(data, 0.0)
    for (name, one), other in zip(model.named_buffers(), alone.buffers(), strict=True):
        assert torch.equal(one, other), name


def test_the_reference_gives_the_same():
    results = []
    for backend in ("auto", "reference"):
        model = method(head="spp", backend=backend)
        results.append(numbers(model.loss(batch(superpixels=superpixels(model)), 0.5)))
    assert results[0] == pytest.approx(results[1], rel=1e-4, abs=1e-7)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_the_network_compiles_whole():
    model = method(head="spp").eval()
    model.network.backbone = nn.Conv2d(3, 3, 3, padding=1)  # the others have tests of their own
    data = batch(superpixels=superpixels(model))
    regions = fastseg.region_index(data.superpixels[0], 20)
    compiled = torch.compile(model.network, fullgraph=True, backend="aot_eager")
    expected = model.network(data.images, regions)
    assert torch.allclose(compiled(data.images, regions), expected, atol=1e-5)


# --- Prediction --------------------------------------------------------------------------------


def test_predictions_by_hand():
    """A backbone that hands on its input: its argmax, its regions', and the mean of scales."""
    model = method(regulariser="none").eval()
    model.network.backbone = nn.Identity()
    images = torch.zeros(1, 3, 16, 16)
    images[:, 0, :, :8] = 3
    images[:, 1, :, 8:] = 2
    images[:, 2, 0, 0] = 9
    halves = (torch.arange(16).expand(1, 16, 16) >= 8).int()
    whole, rows = torch.zeros_like(halves), torch.arange(16)[:, None].expand(1, 16, 16).int()
    data = batch(1, (16, 16))
    data = dataclasses.replace(data, images=images, superpixels=(halves, whole, rows))
    maps = model.predict(data)
    expected = torch.tensor([0, 1]).repeat_interleave(8).expand(1, 16, 16)
    assert torch.equal(maps["superpixel"], expected)
    assert maps["backbone"][0, 0, 0] == 2
    assert torch.equal(maps["backbone"][:, 1:], expected[:, 1:])
    p = torch.zeros(1, 3, 16, 16)
    for labels in data.superpixels:
        pooled = fastseg.region_pool(images, labels, 16)
        p += fastseg.region_unpool(pooled.softmax(2), labels)
    assert torch.equal(maps["multiscale"], p.argmax(1))


# --- Randomness --------------------------------------------------------------------------------


def test_the_same_seeds_give_the_same_loss():
    model = method().eval()
    data = batch(superpixels=superpixels(model))
    torch.manual_seed(1)
    first = numbers(model.loss(data, 0.0))
    assert numbers(model.loss(data, 0.0)) == first
    other = dataclasses.replace(data, seeds=data.seeds + 1)
    changed = numbers(model.loss(other, 0.0))
    assert changed["adv"] != first["adv"]
    assert changed["geo"] != first["geo"]
    assert changed["marginal"] == first["marginal"]


# --- Learning ----------------------------------------------------------------------------------


def test_it_learns_to_tell_squares_from_their_ground():
    """Two classes of superpixels, told apart without a label."""
    model = method(classes=2, head="mean", backbone="unet", segments="nn", finer=8, lr=3e-3)
    data = batch(4, superpixels=model.superpixels, labels=True)
    training = dataclasses.replace(data, superpixels=data.superpixels[:1], labels=None)
    optimizer = model.optimizer()
    for step in range(15):
        optimizer.zero_grad()
        model.loss(training, step / 15)["loss"].backward()
        optimizer.step()
    metrics = {name: fastseg.SegmentationMetrics(2, 2) for name in VARIANTS}
    with torch.no_grad():
        for name, labels in model.eval().predict(data).items():
            metrics[name].update(labels, data.labels)
    accuracy = {name: metric.compute().accuracy for name, metric in metrics.items()}
    assert min(accuracy.values()) > 0.9, accuracy


# --- Bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet"}, "`backbone` must be one of 'hourglass', 'unet', 'vgg', got"),
        ({"backbone": "unet", "stride": 2}, '`stride` must be 1 for backbone "unet", got 2'),
        ({"head": "median"}, "`head` must be one of 'max', 'mean', 'spp', 'resize', got 'median'"),
        ({"prior": (1.0, 2.0)}, "`prior` must have a value for each of 3 classes, got 2"),
        ({"regulariser": "l2"}, "`regulariser` must be one of .*'both', got 'l2'"),
        ({"segments": "3n"}, "`segments` must be one of 'n', '2n', 'nn', got '3n'"),
    ],
)
def test_what_inmars_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        method(**options)
