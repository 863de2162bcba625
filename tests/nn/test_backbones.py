"""The backbones: hourglass, UNet, VGG."""

import pytest
import torch
from torch import nn

from fastseg.nn import VGG, Hourglass, PSPNet, UNet

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = (Hourglass, PSPNet, UNet, VGG)


def small(kind, channels=3, classes=5, **options):
    torch.manual_seed(0)
    return kind(channels, classes, width=8, **options)


def pictures(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 1, 16, 48), (2, 4, 64, 32)])
def test_maps_have_the_size_of_the_pictures(kind, shape):
    model = small(kind, shape[1]).eval()
    assert model(pictures(*shape)).shape == (shape[0], 5, *shape[2:])


@pytest.mark.parametrize("kind", [PSPNet, UNet, VGG])
@pytest.mark.parametrize("size", [(17, 30), (31, 16)])
def test_odd_sizes(kind, size):
    assert kind.multiple == 1
    assert small(kind)(pictures(2, 3, *size)).shape == (2, 5, *size)


@pytest.mark.parametrize(("stride", "side"), [(1, 16), (2, 32), (4, 64)])
def test_an_hourglass_takes_what_it_can_halve(stride, side):
    model = small(Hourglass, stride=stride).eval()
    assert model.multiple == side
    assert model(pictures(1, 3, side, 2 * side)).shape == (1, 5, side, 2 * side)
    message = f"`x` must have a height and a width divisible by {side}, got {side + 8}×{side}"
    with pytest.raises(ValueError, match=message):
        model(pictures(1, 3, side + 8, side))
    with pytest.raises(ValueError, match=f"divisible by {side}, got 0×{side}"):
        model(pictures(1, 3, 0, side))


def test_a_smooth_unet_does_not_tell_odd_pixels_from_even_ones():
    """Far from the border of a flat picture all pixels have one score, at any depth."""
    flat = torch.full((2, 3, 96, 96), 0.3)
    spread = {}
    for smooth in (False, True):
        model = small(UNet, depth=2, smooth=smooth)
        spread[smooth] = model(flat)[:, :, 32:64, 32:64].flatten(2).std(2).max().item()
    assert spread[True] < 1e-4 < 1e-2 < spread[False]
    assert small(UNet, smooth=True)(pictures(2, 3, 17, 30)).shape == (2, 5, 17, 30)


def test_depth_sets_what_can_be_halved():
    model = small(Hourglass, depth=2)
    assert model.multiple == 4
    assert model(pictures(2, 3, 4, 12)).shape == (2, 5, 4, 12)


@pytest.mark.parametrize(("kind", "least"), [(PSPNet, 4), (UNet, 16), (VGG, 2)])
def test_what_is_too_small_is_refused(kind, least):
    small(kind).eval()(pictures(1, 3, least, least))
    message = f"height and a width of at least {least}, got {least}×{least - 1}"
    with pytest.raises(ValueError, match=message):
        small(kind)(pictures(1, 3, least, least - 1))


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind):
    model = small(kind)
    x = pictures(2, 3, 32, 32).requires_grad_()
    model(x).square().mean().backward()
    assert x.grad is not None
    assert x.grad.abs().amax((1, 2, 3)).min() > 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # A constant before batch norm changes nothing.
        if not name.endswith("bias"):
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_a_picture_counts_and_no_other_does(kind):
    """In evaluation samples do not see each other; a pixel's score depends on those around it."""
    model = small(kind).eval()
    x = pictures(2, 3, 32, 32).requires_grad_()
    (seen,) = torch.autograd.grad(model(x)[0, :, 16, 16].sum(), x)
    assert seen[1].abs().max() == 0
    touched = seen[0].abs().amax(0) > 0
    assert touched[16, 16]
    assert touched.sum() > 16 * 16 / 2


@pytest.mark.parametrize(
    ("kind", "options", "count"),
    [
        (Hourglass, {}, 805_098),
        (Hourglass, {"width": 256, "stride": 4}, 12_568_458),
        (UNet, {}, 31_037_893),
        (VGG, {}, 4_505_157),
    ],
)
def test_number_of_parameters(kind, options, count):
    with torch.device("meta"):
        model = kind(3, 5, **options)
    assert sum(p.numel() for p in model.parameters()) == count


def test_parameters_of_an_hourglass_by_hand():
    """A stack of depth 1 with one block: four bottlenecks within, one after."""

    def bottleneck(c, d):
        half = d // 2
        convs = c * half + half + 9 * half * half + half + half * d + d
        return convs + 2 * (c + half + half) + (c * d + d if c != d else 0)

    w, k = 16, 5
    stem = 49 * 3 * 4 + 4 + 2 * 4 + bottleneck(4, 8) + bottleneck(8, 8) + bottleneck(8, 16)
    stack = 5 * bottleneck(w, w) + (w * w + w + 2 * w) + (w * k + k)
    onward = (w + k) * w + w
    for stacks in (1, 3):
        model = Hourglass(3, k, w, stacks, blocks=1, depth=1)
        expected = stem + stacks * stack + (stacks - 1) * onward
        assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
@pytest.mark.parametrize("kind", KINDS)
def test_backbones_compile_whole(kind):
    options = {"blocks": 1, "depth": 1} if kind is Hourglass else {}
    model = small(kind, **options).eval()
    x = pictures(1, 3, 16, 20 if kind is not Hourglass else 16)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), model(x), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_backbones_refuse(kind):
    with pytest.raises(TypeError, match="`in_channels` must be an integer, got float"):
        kind(3.0, 5)
    with pytest.raises(ValueError, match="`out_channels` must be an integer of at least 1, got 0"):
        kind(3, 0)
    with pytest.raises(ValueError, match="`width` must be"):
        kind(3, 5, 0)
    model: nn.Module = small(kind)
    with pytest.raises(TypeError, match=r"`x` must be a torch.Tensor, got list"):
        model([1.0])
    message = r"`x` must have shape \(any, 3, any, any\), got \(1, 4, 32, 32\)"
    with pytest.raises(ValueError, match=message):
        model(pictures(1, 4, 32, 32))


def test_what_an_hourglass_refuses():
    with pytest.raises(ValueError, match="`width` must be divisible by 4, got 6"):
        Hourglass(3, 5, 6)
    with pytest.raises(ValueError, match="`stride` must be one of 1, 2, 4, got 3"):
        Hourglass(3, 5, stride=3)
    for name in ("stacks", "blocks", "depth"):
        with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1, got 0"):
            Hourglass(3, 5, **{name: 0})
    with pytest.raises(ValueError, match="`depth` must be an integer of at least 1, got 0"):
        UNet(3, 5, depth=0)
