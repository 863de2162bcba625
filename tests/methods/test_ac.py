"""AC: two ordered views of a picture, and the mutual information of their clusters."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

import fastseg
from benchmarks.peers import autoregressive as peer
from benchmarks.peers.joint import conv2d_loss
from fastseg.methods import AC
from fastseg.methods.ordered import Ordered
from fastseg.methods.views import flip, jitter, quarter_turn
from fastseg.orderings import ALL, RASTER, ZIGZAG, opposite
from tests.methods.samples import batch, halves

pytestmark = pytest.mark.usefixtures("one_thread")


def method(classes=3, channels=3, **options):
    torch.manual_seed(0)
    defaults = {"widths": (8, 8, 8, 8, 8), "stride": 2, "radius": 2}
    return AC(AC.Config(**{**defaults, **options}), channels, classes)


def pairs(model, steps=40):
    """The orderings of so many steps, as the loop seeds them."""
    seen = []

    def look(images, orderings, decode=True):
        seen.append(orderings)
        return images, images

    model.network.forward = look
    for step in range(steps):
        torch.manual_seed(step)
        Ordered.views(model, batch())
    return seen


def test_defaults_are_the_published_ones():
    config = AC.Config()
    assert (config.lr, config.variant, config.stride, config.dropout) == (1e-5, "F2", 4, 0)
    assert (config.orderings, config.subset, config.sampling) == ("raster", None, "random")
    assert (config.attention, config.transform, config.overclusters) == (False, "none", None)
    optimizer = method(lr=1e-5).optimizer()
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == 1e-5


# --- Orderings ---------------------------------------------------------------------------------


def test_pairs_are_of_the_chosen_set():
    for name, chosen in (("raster", RASTER), ("zigzag", ZIGZAG), ("both", ALL)):
        found = pairs(method(orderings=name, attention=True), 100)
        assert {ordering for pair in found for ordering in pair} == set(chosen)
    found = pairs(method(sampling="random"))
    assert any(a == b for a, b in found)
    assert all(a != b for a, b in pairs(method(sampling="no_repetition")))
    assert all(b == opposite(a) for a, b in pairs(method(sampling="hard")))
    # A step's seed decides, whatever the batch is.
    assert pairs(method()) == pairs(method())


def test_a_subset_is_the_seeds_and_part_of_the_state():
    chosen = []
    for seed in range(12):
        torch.manual_seed(seed)
        config = AC.Config(widths=(8,) * 5, subset=2, sampling="hard")
        model = AC(config, 3, 2)
        first, second = model.orderings.tolist()
        assert second == opposite(first)
        chosen.append(first)
    assert len(set(chosen)) > 1
    other = AC(config, 3, 2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.orderings, model.orderings)
    assert {o for pair in pairs(other) for o in pair} == set(model.orderings.tolist())
    assert len(method(subset=4).orderings) == 4


# --- The loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"attention": True, "orderings": "zigzag"}])
def test_the_loss_is_that_of_a_straightforward_program(options):
    """Padding, masked weights, a stored mask, the joint as one convolution."""
    model = method(**options).double()
    data = batch(size=(12, 12))
    data = dataclasses.replace(data, images=data.images.double())
    data = dataclasses.replace(data, valid=torch.ones_like(data.valid))
    (first, second) = pairs(method(**options), 1)[0]
    torch.manual_seed(0)
    loss = model.loss(data, 0.0)["loss"]
    kept = peer.masks(6, 6, (first, second), dtype=torch.float64)
    assert first != second
    views = [peer.forward(model.network, data.images, o, kept) for o in (first, second)]
    p, q = (x.softmax(1) for x in views)
    expected = conv2d_loss(p, q, 2, True)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("transform", ["photometric", "flip", "rotation", "all"])
def test_the_second_view_is_transformed_and_brought_back(transform):
    model = method(transform=transform).eval()
    data = batch(8, (16, 16))
    (first, second) = pairs(method(), 1)[0]
    colours, mirrored, turned = (
        transform in kinds
        for kinds in (("photometric", "all"), ("flip", "all"), ("rotation", "all"))
    )
    other = jitter(data.images, data.seeds) if colours else data.images
    other = flip(other, data.seeds, 0.5 * mirrored)
    other = quarter_turn(other, data.seeds) if turned else other
    assert not torch.equal(other, data.images)
    with torch.no_grad():
        torch.manual_seed(0)
        views = model.views(data)
        seen = model.network(other, second)
        seen = quarter_turn(seen, data.seeds, back=True) if turned else seen
        seen = flip(seen, data.seeds, 0.5 * mirrored)
        assert torch.equal(views[0], model.network(data.images, first))
        assert torch.equal(views[1], seen)
        # A network that sees single pixels says the same of both: pixel lies on pixel.
        model.network = PixelByPixel()
        views = model.views(data)
    assert torch.allclose(*views) != colours


class PixelByPixel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one = torch.nn.Conv2d(3, 3, 1)

    def forward(self, x, ordering, decode=True):
        return self.one(x)


def test_invalid_pixels_do_not_count():
    model = method().eval()
    model.network.forward = lambda x, orderings, decode=True: (x, x.flip(2))
    data = batch()
    spoilt = data.images.masked_fill(~data.valid[:, None], 9.0)
    spoilt[:, :, -3:] = 9.0  # what lies on them in the other view
    valid = data.valid.clone()
    valid[:, -3:] = False
    results = []
    for images in (data.images, spoilt):
        one = dataclasses.replace(data, images=images, valid=valid)
        results.append(model.loss(one, 0.0)["loss"].item())
    assert results[0] == pytest.approx(results[1], abs=1e-7)


@pytest.mark.parametrize(("symmetric", "loss"), [(True, -math.log(2)), (False, 0.0)])
def test_a_symmetric_joint_takes_what_tells_views_apart_for_information(symmetric, loss):
    """Each view in one cluster, whatever the picture: nothing in common but for the swap."""
    model = method(symmetric=symmetric)
    one, other = (50.0 * F.one_hot(torch.tensor(k), 3)[:, None, None].expand(4, 3, 12, 12)
                  for k in (0, 2))  # fmt: skip
    model.network.forward = lambda x, orderings, decode=True: (one, other)
    data = batch(4, (12, 12))
    assert model.loss(data, 0.0)["loss"].item() == pytest.approx(loss, abs=1e-6)


# --- Overclustering ----------------------------------------------------------------------------


def test_more_clusters_than_classes_are_matched_many_to_one():
    assert method().matching == "one_to_one"
    model = method(overclusters=7)
    assert (model.matching, model.clusters, model.classes) == ("many_to_one", 7, 3)
    with torch.no_grad():
        assert model.eval().predict(batch())["pixel"].max() < 7
    assert AC.matching == "one_to_one"


# --- Inference ---------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["F1", "F2", "F3", "F4", "F5"])
@pytest.mark.parametrize("attention", [False, True])
def test_inference_is_that_of_an_ordinary_network(variant, attention):
    """Bit for bit: PyTorch's own layers with these weights."""
    if attention and variant in ("F4", "F5"):
        pytest.skip("there is nothing to attend in")
    model = method(variant=variant, attention=attention).eval()
    data = batch()
    net = model.network
    with torch.no_grad():
        y = net.extractor(data.images.contiguous(memory_format=torch.channels_last))
        for i, block in enumerate(net.blocks):
            convs = []
            for conv in (block.conv1, block.conv2):
                plain = torch.nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
                plain.load_state_dict(conv.state_dict())
                convs.append(plain)
            y = F.relu(convs[1](F.relu(convs[0](y))) + block.shortcut(y))
            if attention and i == 0:
                y = attended(net.attention, y)
        scores = F.interpolate(net.decoder(y), data.images.shape[2:], mode="bilinear")
        assert torch.equal(model.network(data.images), scores)
        assert torch.equal(model.predict(data)["pixel"], scores.argmax(1))
        assert torch.equal(model(data.images), scores.argmax(1))


def test_the_average_is_of_all_orderings_that_it_learns_in():
    model, data = method(average=True, subset=3).eval(), batch()
    assert (model.variants, AC.variants) == (("pixel", "orderings"), ("pixel",))
    with torch.no_grad():
        mean = sum(model.network(data.images, o).softmax(1) for o in model.orderings.tolist()) / 3
        predicted = model.predict(data)
    assert torch.equal(predicted["orderings"], mean.argmax(1))
    assert torch.equal(predicted["pixel"], model.network(data.images).argmax(1))


def attended(attention, x):
    """With PyTorch's own attention."""
    tokens = x.flatten(2).mT
    q, k, v = attention.qkv(tokens).unflatten(2, (3, 1, -1)).permute(2, 0, 3, 1, 4)
    seen = F.scaled_dot_product_attention(q, k, v)
    of_seen, own = attention.merge.weight.split(attention.in_channels, 1)
    out = F.linear(tokens, own, attention.merge.bias)
    out = out + F.linear(seen.transpose(1, 2).flatten(2), of_seen @ attention.project.weight)
    out = out.mT.unflatten(2, x.shape[2:])
    return out if x.is_contiguous(memory_format=torch.channels_last) else out.contiguous()


# --- Learning ----------------------------------------------------------------------------------


def test_it_learns_to_tell_dark_from_bright():
    """In the clusters of all orderings; the regions are larger than the shifts."""
    model = method(classes=2, lr=3e-3, radius=1, stride=4, sampling="hard", variant="F3")
    data = halves(8, 64)
    optimizer = model.optimizer()
    for step in range(30):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model.loss(dataclasses.replace(data, labels=None), 0.0)["loss"].backward()
        optimizer.step()
    metrics = fastseg.SegmentationMetrics(2, 2)
    with torch.no_grad():
        metrics.update(model.eval().predict(data)["pixel"], data.labels)
    assert metrics.compute().accuracy > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"orderings": "zigzag"}, '`attention` must be True for `orderings` "zigzag"'),
        ({"orderings": "spiral"}, "`orderings` must be one of 'raster', 'zigzag', 'both', got"),
        ({"transform": "blur"}, "`transform` must be one of 'none', .*, 'all', got 'blur'"),
        ({"sampling": "soft"}, "`sampling` must be one of .*'hard', got 'soft'"),
        ({"subset": 9}, "`size` must be at most 8, .*, got 9"),
        ({"subset": 3, "sampling": "hard"}, "`size` must be even for pairs of opposites, got 3"),
        ({"subset": 1, "sampling": "no_repetition"}, "`orderings` must hold at least 2, got 1"),
        ({"overclusters": 0}, "`num_classes` must be an integer of at least 1, got 0"),
        ({"variant": "F4", "attention": True}, "`attention` must be False for F4"),
    ],
)
def test_what_ac_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        method(**options)


def test_turns_need_squares():
    with pytest.raises(ValueError, match="`x` must be square to be turned, got 16×12"):
        method(transform="rotation").loss(batch(size=(16, 12)), 0.0)
