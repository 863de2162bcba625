"""nn.MaskedConv2d and nn.use_ordering."""

# mypy: disable-error-code="call-arg, misc, arg-type"

import pytest
import torch
from torch import nn

from fastseg import masked_conv2d
from fastseg.nn import MaskedConv2d, use_ordering

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")
X = torch.randn(2, 4, 6, 7, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        MaskedConv2d(4, 8, 3, activation="relu"),
        nn.Sequential(MaskedConv2d(8, 8, 5, groups=2, bias=False), nn.ReLU()),
        MaskedConv2d(8, 3, 3, dilation=2),
    )


@pytest.mark.parametrize("padding", ["same", 2])
def test_is_a_convolution(padding):
    """Same parameters from the same seed, under the same names, and in ordering 0 same results."""
    options = {"dilation": 2, "groups": 2, "bias": True}
    torch.manual_seed(3)
    plain = nn.Conv2d(4, 6, 3, 1, 2, **options)
    torch.manual_seed(3)
    masked = MaskedConv2d(4, 6, 3, 1, padding, **options)
    assert plain.state_dict().keys() == masked.state_dict().keys()
    assert torch.equal(plain(X), masked(X))
    masked.load_state_dict(plain.state_dict())
    assert torch.equal(masked(X, 5), masked_conv2d(X, plain.weight, plain.bias, 5, 2, 2))
    assert isinstance(masked, nn.Conv2d)
    assert masked.double()(X.double()).dtype == torch.float64
    text = "MaskedConv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), padding=same, dilation=(2, 2), gr"
    assert repr(masked).startswith(text)
    assert repr(MaskedConv2d(1, 1, 1, activation="relu")).endswith(", activation='relu')")


def test_residual_and_activation():
    layer = MaskedConv2d(4, 4, 3, activation="relu")
    expected = (masked_conv2d(X, layer.weight, layer.bias, 2) + X).relu()
    assert torch.allclose(layer(X, 2, residual=X), expected)


def test_the_ordering_of_a_network():
    net = network()
    ordinary = net(X)
    results = []
    for ordering in range(9):
        with use_ordering(net, ordering):
            results.append(net(X))
            assert torch.equal(net[0](X, 0), net[0](X, ordering=0))
            assert torch.equal(net[0](X), net[0](X, ordering))
    assert torch.equal(results[0], ordinary)
    assert torch.equal(net(X), ordinary)
    first, *layers = (net[0], net[1][0], net[2])
    by_hand = layers[1](layers[0](first(X, 3), 3).relu(), 3)
    assert torch.equal(results[3], by_hand)
    assert len({result.sum().item() for result in results}) == 9


def test_orderings_nest_and_are_put_back():
    net = network()
    net[2].ordering = 4
    with use_ordering(net, 1):
        with use_ordering(net[1], 7):
            assert [net[0].ordering, net[1][0].ordering, net[2].ordering] == [1, 7, 1]
        assert net[1][0].ordering == 1
    with pytest.raises(RuntimeError, match="inside"), use_ordering(net, 2):
        raise RuntimeError("inside")
    assert [net[0].ordering, net[1][0].ordering, net[2].ordering] == [0, 0, 4]


def test_every_weight_is_trained():
    net = network()
    for ordering in range(1, 9):
        with use_ordering(net, ordering):
            net(X.abs()).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
    assert (net[2].weight.grad != 0).float().mean() > 0.5


def test_gradients():
    net = network().double()
    x = X[:1, :, :3, :3].double().requires_grad_()
    with use_ordering(net, 6):
        torch.autograd.gradcheck(net, x, fast_mode=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_compiles_whole_in_every_ordering():
    net = network()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for ordering in (0, 3, 6):
        with use_ordering(net, ordering):
            assert torch.allclose(compiled(X), net(X), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"in_channels": 0}, ValueError, "`in_channels` must be an integer of at least 1, got 0"),
        ({"out_channels": "3"}, TypeError, "`out_channels` must be an integer, got str"),
        ({"kernel_size": 4}, ValueError, "`kernel_size` must be one of 1, 3, 5, 7, got 4"),
        ({"stride": 2}, ValueError, "`stride` must be one of 1, got 2"),
        ({"padding": 2}, ValueError, "`padding` must be one of 'same', 1, got 2"),
        ({"dilation": (1, 2)}, TypeError, "`dilation` must be an integer, got tuple"),
        (
            {"padding_mode": "reflect"},
            ValueError,
            "`padding_mode` must be one of 'zeros', got 'ref",
        ),
        (
            {"activation": "gelu"},
            ValueError,
            "`activation` must be one of None, 'relu', got 'gelu'",
        ),
    ],
)
def test_refusals(change, error, message):
    with pytest.raises(error, match=message):
        MaskedConv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **change})


@pytest.mark.parametrize(
    ("module", "ordering", "error", "message"),
    [
        (3, 1, TypeError, "`network` must be a torch.nn.Module, got int"),
        (nn.Conv2d(1, 1, 1), 1, ValueError, "`network` must have a layer with an ordering, got no"),
        (network(), 9, ValueError, "`ordering` must be an integer from 0 to 8, got 9"),
    ],
)
def test_refusals_of_orderings(module, ordering, error, message):
    with pytest.raises(error, match=message), use_ordering(module, ordering):
        raise AssertionError("inside")


def test_refusal_of_a_call():
    with pytest.raises(ValueError, match="`ordering` must be an integer from 0 to 8, got 12"):
        network()[0](X, 12)
