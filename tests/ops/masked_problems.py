"""Problems for masked convolutions, what is to come out, and who solves them."""

import os

import torch
import torch.nn.functional as F

from fastseg.orderings import ranks

RASTER = range(1, 9)
SHAPES: list[tuple[int, int, int, int, int, int, int, int]] = [  # B, C, O, H, W, F, d, groups
    (1, 1, 1, 1, 1, 3, 1, 1),
    (2, 3, 5, 5, 9, 3, 1, 1),
    (1, 4, 6, 7, 4, 5, 1, 2),
    (3, 2, 4, 9, 1, 3, 2, 2),
    (1, 3, 2, 3, 5, 7, 1, 1),  # a kernel larger than the picture
    (2, 4, 4, 6, 5, 1, 1, 4),
    (1, 2, 3, 8, 9, 5, 3, 1),
]
# As `F.pad` takes it: the past of orderings 1, 2, 3, 4 is above, left, below, right.
SIDES = ((1, 1, 2, 0), (2, 0, 1, 1), (1, 1, 0, 2), (0, 2, 1, 1))


BACKENDS = os.environ.get("TEST_BACKENDS", "native torch reference").split()


def chosen(backend: str, monkeypatch) -> str:
    """`backend`, the native one however few the channels."""
    monkeypatch.setattr("fastseg.ops.masked_conv._native.LEAST_CHANNELS", 1)
    return backend


def integers(shape, seed, dtype=torch.float64):
    """Whose sums are exact, in any order."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, shape, generator=rng).to(dtype)


def problem(shape, dtype=torch.float32, seed=0):
    """x, weight, bias and a gradient of the result."""
    batch, channels, outs, height, width, size, _, groups = shape
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn((batch, channels, height, width), generator=rng)
    weight = torch.randn((outs, channels // groups, size, size), generator=rng) / 4
    bias = torch.randn(outs, generator=rng)
    grad = torch.randn((batch, outs, height, width), generator=rng)
    return tuple(tensor.to(dtype) for tensor in (x, weight, bias, grad))


def padded(x, weight, bias, ordering, dilation=1, groups=1):
    """`F.pad`, `weight * mask`, `F.conv2d`; the mask from the places of pixels in the ordering."""
    size = weight.shape[2]
    half = size // 2
    if ordering == 0:
        options = {"padding": half * dilation, "dilation": dilation, "groups": groups}
        return F.conv2d(x, weight, bias, **options)
    sides = SIDES[(ordering - 1) % 4]
    middle = half + half * (sides[2] - sides[3]) // 2, half + half * (sides[0] - sides[1]) // 2
    place = ranks(size, size, ordering)
    mask = (place <= place[middle]).to(x.dtype)
    assert mask.sum() == size * size - half
    x = F.pad(x, [half * dilation * side for side in sides])
    return F.conv2d(x, weight * mask, bias, dilation=dilation, groups=groups)


def value_and_gradients(convolve, tensors, grad):
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    out = convolve(*tensors)
    return out.detach(), *torch.autograd.grad(out, tensors, grad)
