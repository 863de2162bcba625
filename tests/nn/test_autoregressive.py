"""The networks of AC, and the critic of ARL."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import autoregressive as peer
from fastseg import info_nce
from fastseg.nn import AutoregressiveBlock, AutoregressiveNet, Critic, autoregressive, use_ordering
from fastseg.orderings import ALL, RASTER, ZIGZAG, attention_mask, turn

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

VARIANTS = ["F1", "F2", "F3", "F4", "F5"]
WIDTHS = (4, 6, 6, 8, 5)


def pictures(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def network(variant="F2", **options):
    torch.manual_seed(0)
    return AutoregressiveNet(5, 3, variant, widths=WIDTHS, **options)


def positive(module):
    """Every way through the network counts: no ReLU closes, and nothing cancels."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_()
    return module


# --- What sees what ----------------------------------------------------------------------------


def seen_by_convolution(height, width, ordering):
    """(N,N): row i has the pixels that a 3×3 convolution of `ordering` looks at for pixel i."""
    taps = torch.ones(3, 3, dtype=torch.bool)
    taps[2, 2] = False
    if ordering == 0:
        taps, row = torch.ones_like(taps), 1
    centre = torch.zeros(3, 3, dtype=torch.bool)
    centre[1 if ordering == 0 else 2, 1] = True
    taps, centre = turn(taps, ordering), turn(centre, ordering)
    (row, column), seen = centre.nonzero()[0], torch.zeros(2 * (height * width,), dtype=torch.bool)
    for y, x in taps.nonzero().tolist():
        dy, dx = y - row.item(), x - column.item()
        for at in range(height * width):
            i, j = at // width + dy, at % width + dx
            if 0 <= i < height and 0 <= j < width:
                seen[at, i * width + j] = True
    return seen


def after(*steps):
    """What is seen through one after the other."""
    total = steps[0].double()
    for step in steps[1:]:
        total = (step.double() @ total > 0).double()
    return total > 0


def seen_by(net, x, ordering):
    """(N,N): row i has the pixels on which a feature of pixel i depends, in a positive network."""

    def features(x):
        return net.features(x, [ordering])[0].sum(1)[0]

    jacobian = torch.autograd.functional.jacobian(features, x)  # (H,W,1,C,H,W)
    return jacobian.ne(0).any(3).flatten(3).flatten(0, 2)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("ordering", [0, *RASTER])
def test_the_network_sees_what_its_layers_see_together(ordering, attention):
    """Pixel by pixel, in float64; with attention that is all before a pixel, without not."""
    height, width = 4, 6
    net = positive(network("F1", stride=1, attention=attention)).double().eval()
    x = pictures(1, 3, height, width, dtype=torch.float64).abs()
    seen = seen_by(net, x, ordering)
    whole = attention_mask(height, width, ordering)
    layer = seen_by_convolution(height, width, ordering)
    if attention:
        assert torch.equal(seen, after(layer, layer, whole, *8 * [layer]))
        assert torch.equal(seen, whole)
    else:
        assert torch.equal(seen, after(*10 * [layer]))
        assert not (seen & ~whole).any()
        if ordering:
            assert not torch.equal(seen, whole)


def test_the_blind_spot_of_figure_6():
    """One block of two layers: n rows up it sees n pixels to the right at most, however deep."""
    block = positive(AutoregressiveBlock(1, 1)).double()
    x = pictures(1, 1, 6, 7, dtype=torch.float64).abs()
    jacobian = torch.autograd.functional.jacobian(lambda x: block(x, 1)[0, 0, 4, 3], x)[0, 0]
    reach = [
        [0, 1, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    assert jacobian.ne(0).int().tolist() == reach


@pytest.mark.parametrize("ordering", ZIGZAG)
def test_zigzags_order_the_attention_alone(ordering):
    net = positive(network("F3", stride=1, attention=True)).double().eval()
    net.extractor, net.in_channels = nn.Identity(), WIDTHS[0]
    x = pictures(1, WIDTHS[0], 3, 4, dtype=torch.float64).abs()
    layer, whole = seen_by_convolution(3, 4, ordering - 8), attention_mask(3, 4, ordering)
    assert torch.equal(seen_by(net, x, ordering), after(layer, layer, whole, *6 * [layer]))


def test_what_comes_before_the_encoder_sees_everything():
    net = positive(network("F4")).double().eval()
    x = pictures(1, 3, 12, 12, dtype=torch.float64).abs()
    assert seen_by(net, x, 1).all()


# --- Values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["F1", "F2", "F3"])
@pytest.mark.parametrize("ordering", ALL)
def test_equals_a_straightforward_network(variant, ordering):
    """Value and gradients, with padded pictures, masked weights and a stored mask."""
    net = network(variant, attention=True, stride=2).double()
    x = pictures(2, 3, 11, 14, dtype=torch.float64).requires_grad_()
    kept = peer.masks(6, 7, (ordering,))
    given = [x, *net.parameters()]
    results = []
    for call in (net, lambda x, o: peer.forward(net, x, o, kept)):
        scores = call(x, ordering)
        results.append((scores, *torch.autograd.grad(scores.square().sum(), given)))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_without_an_ordering_it_is_an_ordinary_network():
    net, x = network("F1", stride=1).eval(), pictures(1, 3, 6, 7)
    y = x
    for block in net.blocks:
        inside = F.conv2d(y, block.conv1.weight, block.conv1.bias, padding=1).relu()
        outside = F.conv2d(inside, block.conv2.weight, block.conv2.bias, padding=1)
        y = (outside + block.shortcut(y)).relu()
    torch.testing.assert_close(net(x), net.decoder(y))
    torch.testing.assert_close(net(x, 0), net(x))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(12, 16), (9, 7), (1, 1)])
def test_shapes(variant, stride, size):
    net = network(variant, stride=stride).eval()
    x = pictures(2, 3, *size)
    scores = net(x, 2)
    assert scores.shape == (2, 5, *size)
    assert scores.isfinite().all()
    (features,) = net.features(x, [2])
    grid = [-(-side // stride) for side in size]
    assert features.shape == (2, net.channels, *grid)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_squares_of_pixels_are_channels(stride):
    x = pictures(2, 3, 8, 12)
    expected = F.pixel_unshuffle(x, stride)
    extractor = network("F1", stride=stride).extractor
    assert torch.equal(extractor(x), expected)
    less = x[:, :, : 9 - stride, : 13 - stride]
    padded = F.pad(less, (0, stride - 1, 0, stride - 1))
    assert torch.equal(extractor(less), F.pixel_unshuffle(padded, stride))


def test_one_batch_of_none():
    assert network("F1", attention=True)(pictures(0, 3, 8, 8), (1, 9))[1].shape == (0, 5, 8, 8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parts_are_those_of_table_1(variant):
    net = network(variant)
    blocks = {"F1": 5, "F2": 5, "F3": 4, "F4": 0, "F5": 0}[variant]
    assert len(net.blocks) == blocks
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.blocks.modules())
    assert bool(list(net.extractor.parameters())) == (variant != "F1")
    convolutions = {"F1": 0, "F2": 1, "F3": 2, "F4": 10, "F5": 17}[variant]
    sizes = [m.kernel_size[0] for m in net.extractor.modules() if isinstance(m, nn.Conv2d)]
    assert sum(size > 1 for size in sizes) == convolutions
    if variant in ("F4", "F5"):
        x = pictures(1, 3, 8, 8)
        assert torch.equal(net.eval()(x, 1), net(x, 7))


def test_two_views_share_what_comes_before_the_encoder():
    net, x = network(attention=True).eval(), pictures(2, 3, 16, 16)
    calls = []
    net.extractor.register_forward_hook(lambda *_: calls.append(1))
    first, second = net(x, (3, 14))
    assert len(calls) == 1
    assert torch.equal(first, net(x, 3))
    assert torch.equal(second, net(x, 14))
    assert not torch.equal(first, second)


def test_the_ordering_of_a_whole_network():
    net, x = network(attention=True).eval(), pictures(1, 3, 16, 16)
    expected = net(x, 5)
    with use_ordering(net, 5):
        assert torch.equal(net(x), expected)
        assert torch.equal(net(x, 0), net(x, 0))
    assert torch.equal(net(x), net(x, 0))


def test_dropout_acts_inside_the_blocks_while_training():
    net, x = network("F3", dropout=0.5), pictures(2, 3, 16, 16)
    net.extractor.eval()
    assert not torch.equal(net(x, 1), net(x, 1))
    rates = [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
    assert rates == 5 * [0.5]
    net.eval()
    assert torch.equal(net(x, 1), net(x, 1))


@pytest.mark.parametrize("stride", [2, 4])
def test_the_shortcut_of_a_strided_block(stride):
    """As a strided convolution; whose gradient is wrong, or ends the process, in some versions."""
    block = autoregressive.Block(3, 16, autoregressive.STRIDES[stride]).double()
    x = pictures(2, 3, 12, 9, dtype=torch.float64)
    conv: Any = block.shortcut[0]
    expected = block.shortcut[1](F.conv2d(x, conv.weight, stride=stride)) + block.inside(x)
    torch.testing.assert_close(block(x), expected.relu())
    x = pictures(14, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    block.float()(x).square().sum().backward()
    given = conv.weight.grad.clone()
    block.zero_grad()
    block(x.contiguous()).square().sum().backward()
    assert (given - conv.weight.grad).norm() < 1e-2 * given.norm()


# --- Compilers and layouts ---------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_compiles_whole():
    net, x = network(attention=True).eval(), pictures(2, 3, 16, 20)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    results = []
    for call in (compiled, net):
        scores = torch.stack(call(x, (4, 9)))
        given = torch.autograd.grad(scores.square().sum(), list(net.parameters()))
        results.append((scores, *given))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_takes_any_layout():
    net, x = network(attention=True).eval(), pictures(2, 3, 16, 20)
    expected = net(x, 6)
    for other in (x.to(memory_format=torch.channels_last), x.mT.contiguous().mT):
        assert torch.equal(net(other, 6), expected)


def test_under_autocast():
    net, x = network(attention=True).eval(), pictures(2, 3, 16, 20)
    with torch.autocast("cpu", torch.bfloat16):
        low = net(x, 6)
    torch.testing.assert_close(low.float(), net(x, 6), rtol=0.1, atol=0.1)


# --- The critic --------------------------------------------------------------------------------


def test_critics_feed_infonce():
    net, x = network(), pictures(2, 3, 16, 16)
    one, two = (Critic(net.channels, 32, layers) for layers in (2, 0))
    kinds = [type(layer) for layer in one]
    assert kinds == 2 * [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] + [nn.Conv2d]
    y, y2 = net.features(x, (1, 3))
    assert two(y2).shape == (2, 32, 4, 4)
    info_nce(one(y), two(y2), positions=8).backward()
    assert all(p.grad is not None for m in (net.blocks, one, two) for p in m.parameters())


# --- Bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "`num_classes` must be an integer of at least 1, got 0"),
        ({"in_channels": 0}, "`in_channels` must be an integer of at least 1, got 0"),
        ({"variant": "F6"}, "`variant` must be one of 'F1', .*, got 'F6'"),
        ({"widths": (4, 4)}, "`widths` must be a sequence of 5 integers, got 2 of them"),
        ({"stride": 3}, "`stride` must be one of 1, 2, 4, got 3"),
        ({"dropout": 1}, "`dropout` must be less than 1, got 1"),
        ({"dropout": -0.1}, "`dropout` must be finite and at least 0, got -0.1"),
        ({"variant": "F4", "attention": True}, "`attention` must be False for F4, .*"),
        ({"attention": True, "heads": 3}, r"`channels` must be a multiple of `heads` \(3\), got"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        AutoregressiveNet(**{"num_classes": 4, **arguments})


def test_bad_input():
    net = network()
    with pytest.raises(ValueError, match=r"`x` must have shape \(any, 3, any, any\), got"):
        net(pictures(1, 4, 8, 8))
    with pytest.raises(TypeError, match=r"`x` must be a torch.Tensor, got NoneType"):
        net(None)
    with pytest.raises(ValueError, match="`ordering` must be an integer from 0 to 16, got 17"):
        net(pictures(1, 3, 8, 8), (1, 17))
    with pytest.raises(ValueError, match="`layers` must be an integer of at least 0, got -1"):
        Critic(4, 8, -1)
