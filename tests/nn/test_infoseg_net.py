"""The network of InfoSeg: its shapes, and scores without the local features."""

import pytest
import torch

from fastseg import local_global_scores
from fastseg.nn import InfoSegNet

pytestmark = pytest.mark.usefixtures("one_thread")


def network(in_channels=3, classes=5, width=4, features=24, kernel=3):
    torch.manual_seed(0)
    return InfoSegNet(in_channels, classes, width, features, kernel)


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("channels", "shape"), [(3, (2, 32, 32)), (4, (1, 20, 36)), (1, (3, 4, 8))]
)
def test_its_features_have_a_quarter_of_the_resolution(channels, shape):
    batch, height, width = shape
    net = network(channels).eval()
    local, glob = net.features(images(batch, channels, height, width))
    assert local.shape == (batch, 24, height // 4, width // 4)
    assert glob.shape == (batch, 5, 24)


def test_what_it_gives_has_the_products_of_its_features():
    """And their gradients, in every parameter."""
    net, x = network().double(), images(4, 3, 32, 32).double()
    results = []
    for pair in (net(x), net.features(x)):
        scores = local_global_scores(*pair)
        net.zero_grad()
        (scores * scores.detach().sin()).sum().backward()
        results.append([scores.detach(), *(p.grad.clone() for p in net.parameters())])
    for ours, plain in zip(*results, strict=True):
        assert plain.norm() > 0
        assert torch.allclose(ours, plain, rtol=1e-9, atol=1e-12)


def test_published_sizes():
    net = InfoSegNet(3, 15)
    assert net.heads.weight.shape == (15 * 1024, 1024)
    local, glob = net.eval().features(images(1, 3, 128, 128))
    assert local.shape == (1, 1024, 32, 32)
    assert glob.shape == (1, 15, 1024)


@pytest.mark.parametrize(("kernel", "most"), [(1, 10), (3, 18)])
def test_local_features_see_patches_and_global_ones_the_picture(kernel, most):
    net, x = network(kernel=kernel).eval(), images(1, 3, 64, 64).requires_grad_()
    local, glob = net.features(x)
    (seen,) = torch.autograd.grad(local[0, :, 8, 8].sum(), x, retain_graph=True)
    rows = seen[0].abs().sum((0, 2)).nonzero().flatten()
    assert len(rows) <= most
    assert rows.min() <= 33 <= rows.max()
    (seen,) = torch.autograd.grad(glob[0, 2].sum(), x)
    assert (seen[0].abs().sum(0) > 0).float().mean() > 0.9


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_shade_is_the_same_at_the_border(kernel):
    local, _ = network(kernel=kernel).eval().features(torch.full((1, 3, 24, 32), 0.7))
    assert torch.allclose(local, local[:, :, 3:4, 3:4].expand_as(local), atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_it_compiles_whole():
    net, x = network().eval(), images(2, 3, 32, 32)
    for ours, plain in zip(
        torch.compile(net, fullgraph=True, backend="aot_eager")(x), net(x), strict=True
    ):
        assert torch.allclose(ours, plain, atol=1e-6)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="a height and a width divisible by 4, got 30×32"):
        network()(images(1, 3, 30, 32))
    with pytest.raises(ValueError, match="`x` must have shape"):
        network()(images(1, 4, 32, 32))
    for name in ("in_channels", "classes", "width", "features"):
        with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1, got 0"):
            network(**{name: 0})
