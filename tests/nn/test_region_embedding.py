"""RegionEmbedding."""

import pytest
import torch

from fastseg import region_index, region_pool, region_resize, region_spp
from fastseg.nn import RegionEmbedding

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

HEADS = ["max", "mean", "spp", "resize"]
LABELS = torch.tensor([[[0, 0, 1, 1, 1], [0, 3, 3, -1, 1], [3, 3, 3, 0, 0]]])  # region 2 is empty


def features(channels=3, seed=0, dtype=torch.float32):
    return torch.randn((1, channels, 3, 5), generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("head", ["max", "mean"])
def test_pooling_has_no_layers(head):
    module = RegionEmbedding(3, head=head)
    assert not list(module.parameters())
    x = features()
    assert torch.equal(module(x, LABELS, 4), region_pool(x, LABELS, 4, head))


@pytest.mark.parametrize(
    ("head", "features_of"),
    [
        ("spp", lambda x: region_spp(x, LABELS, 4, (1, 3), None)),
        ("resize", lambda x: region_resize(x, LABELS, 4, (2, 3)).flatten(2)),
    ],
)
def test_layers_follow_the_features(head, features_of):
    module = RegionEmbedding(3, 7, head, hidden=(5, 4), levels=(1, 3), fill=None, size=(2, 3))
    first, _, second, _, last = module.layers
    x = features()
    expected = last(second(first(features_of(x)).relu()).relu())
    expected[:, 2] = 0
    got = module(x, LABELS, 4)
    assert got.shape == (1, 4, 7)
    assert torch.equal(got, expected)
    assert got[:, [0, 1, 3]].ne(0).any(-1).all()


@pytest.mark.parametrize("head", ["spp", "resize"])
def test_no_hidden_layers_is_linear(head):
    module = RegionEmbedding(2, 3, head, hidden=())
    assert [type(layer) for layer in module.layers] == [torch.nn.Linear]
    assert module.layers[0].in_features == 2 * (21 if head == "spp" else 64)


@pytest.mark.parametrize("head", HEADS)
def test_an_index_serves_as_labels(head):
    module = RegionEmbedding(3, 3, head)
    x = features()
    assert torch.equal(module(x, region_index(LABELS, 4)), module(x, LABELS, 4))


@pytest.mark.parametrize("head", HEADS)
def test_gradients(head):
    module = RegionEmbedding(2, 2, head, hidden=(3,), levels=(1, 2), size=(2, 2)).double()
    x = features(2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x, LABELS, 4), (x,))
    gradients = torch.autograd.grad(module(x, LABELS, 4).square().sum(), [x, *module.parameters()])
    assert all(g.isfinite().all() and g.any() for g in gradients)


@pytest.mark.parametrize("head", HEADS)
def test_it_compiles_whole(head):
    module = RegionEmbedding(3, 3, head)
    index = region_index(LABELS, 4)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(features(), index), module(features(), index))


def test_under_autocast():
    module = RegionEmbedding(3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        low = module(features(), LABELS, 4)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), module(features(), LABELS, 4), rtol=0.05, atol=0.05)


def test_weights_are_saved_and_loaded():
    one, other = RegionEmbedding(3, 5), RegionEmbedding(3, 5)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(features(), LABELS, 4), other(features(), LABELS, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, r"`in_channels` must be an integer of at least 1, got 0"),
        ({"out_channels": 0}, r"`out_channels` must be an integer of at least 1, got 0"),
        ({"head": "median"}, r"`head` must be one of 'max', .*, got 'median'"),
        ({"hidden": (8, 0)}, r"`hidden` must be .* of at least 1, got 0"),
        ({"hidden": 8}, r"`hidden` must be a sequence of integers, got int"),
        ({"levels": ()}, r"`levels` must name at least one level, got none"),
        ({"levels": (1, -2)}, r"`levels` must be an integer of at least 1, got -2"),
        ({"head": "resize", "size": (8,)}, r"`size` must"),
        ({"head": "resize", "size": (8, 0)}, r"`size` must be an integer of at least 1, got 0"),
        ({"head": "max"}, r'`out_channels` must be `in_channels` \(3\) for head "max", got 4'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        RegionEmbedding(**{"in_channels": 3, "out_channels": 4, **arguments})


def test_bad_input():
    module = RegionEmbedding(3)
    with pytest.raises(ValueError, match=r"`x` must have shape \(any, 3, any, any\), got"):
        module(features(2), LABELS, 4)
    with pytest.raises(TypeError, match=r"`x` must be a torch.Tensor, got list"):
        module([1], LABELS, 4)
    with pytest.raises(TypeError, match=r"`num_regions` must be an integer, got NoneType"):
        module(features(), LABELS)
