"""csrc/cuda/ncut.cu and its launcher, on the CPU (conftest.py). On a GPU the tests at the end run
the kernel itself."""

import math
from types import ModuleType

import numpy as np
import pytest
import torch

from fastseg import backends, soft_ncut
from fastseg.ops.ncut import _reference
from tests.ops.ncut_problems import gradients

OPTIONS, WIDER = (3, 40.0, 4.0), (5, 40.0, 4.0)  # radius and sigmas
CASES = [  # B, K, C, H, W; radius
    ((1, 1, 1, 1, 1), 3),
    ((2, 3, 3, 5, 45), 3),  # strips that are not full, rows that are not aligned
    ((1, 70, 1, 3, 4), 3),  # more planes than a block has
    ((1, 2, 2, 30, 33), 12),  # a disc of several squares
    ((2, 5, 2, 37, 36), 6),  # strips of two parts, and a disc just larger than a square
    ((1, 2, 1, 6, 7), 1),  # none but itself
    ((1, 64, 3, 9, 40), 5),
]
DTYPES = [torch.float32, torch.float64]


@pytest.fixture
def cuda(launcher) -> ModuleType:
    return launcher("ncut")


def problem(shape, dtype=torch.float32):
    batch, classes, channels, height, width = shape
    rng = torch.Generator().manual_seed(0)
    p = torch.rand((batch, classes, height, width), generator=rng, dtype=dtype)
    colours = torch.rand((batch, channels, height, width), generator=rng, dtype=dtype) * 255
    return p, colours


def assert_as_exact(actual, p, colours, options):
    """Within twice the reference's error, and a rounding, of the float64 result."""
    plain = _reference.ncut_sums(p, colours, *options)
    exact = _reference.ncut_sums(p.double(), colours.double(), *options)
    for part, other, expected in zip(actual, plain, exact, strict=True):
        assert part.shape == expected.shape
        assert part.dtype == p.dtype
        assert part.is_contiguous()
        error, allowed = (
            (x.cpu().double() - expected).norm() / expected.norm() for x in (part, other)
        )
        assert error <= 2 * allowed + 4 * torch.finfo(p.dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "radius"), CASES)
def test_equals_the_reference(shape, radius, dtype, cuda, poisoned):
    p, colours = problem(shape, dtype)
    options = radius, *OPTIONS[1:]
    assert_as_exact(cuda.ncut_sums(p, colours, *options), p, colours, options)


def test_gradients_of_first_and_second_order(cuda, monkeypatch):
    monkeypatch.setattr(backends, "load", lambda operator, device, backend: cuda)
    p, colours = problem((1, 2, 1, 2, 3), torch.float64)
    loss = lambda p: soft_ncut(p, colours, *OPTIONS, value_range=(0, 255))  # noqa: E731
    torch.autograd.gradcheck(loss, p.requires_grad_(), fast_mode=True)
    torch.autograd.gradgradcheck(loss, p, fast_mode=True)


def test_any_order_of_threads(host, cuda):
    """Threads in order, in the opposite order and in random ones: were there a race, some other
    order would give other bits."""
    p, colours = problem(CASES[6][0])
    expected = cuda.ncut_sums(p, colours, *WIDER)
    for host.order in (1, 2, 3):
        actual = cuda.ncut_sums(p, colours, *WIDER)
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizer(sanitizer, sanitized):
    """Two images, of more planes and neighbours than a block sums at once: no race, and no access
    outside memory."""
    sanitized("race_ncut.cpp", sanitizer)


@pytest.mark.parametrize(
    ("shape", "radius", "planes", "groups", "passes"),
    [
        ((2, 3, 1, 5, 45), 3, 1, 1, 1),
        ((1, 61, 3, 70, 32), 5, 4, 4, 1),
        ((1, 70, 1, 3, 4), 3, 3, 3, 2),
    ],
)
def test_launch(shape, radius, planes, groups, passes, host, cuda):
    """A part of a strip a block, and again for the planes that are too many; in one launch."""
    batch, classes, channels, height, width = shape
    cuda.ncut_sums(*problem(shape), radius, *OPTIONS[1:])
    (launch,) = host.launches
    parts = math.ceil(height / 32) * math.ceil(width / 32)
    assert launch["jobs"] == launch["grid"] == batch * parts * passes
    assert (launch["block"], launch["shared"]) == (96 * groups, 0)
    assert (launch["reach"], launch["square"]) == (min(radius, max(height, width)) - 1, radius**2)
    assert launch["classes"] == classes
    assert launch["whole"] == (width % 4 == 0)
    assert 4 * planes * groups * passes >= classes
    assert isinstance(launch["color_rate"], np.float32)
    sizes = {"PLANES": planes, "GROUPS": groups, "CHANNELS": channels, "SQUARE": radius**2}
    options = *(f"-D{name}={size}" for name, size in sizes.items()), "--ftz=true"
    assert ("ncut", "-std=c++17", *options) in host.libraries


@pytest.mark.parametrize("sigmas", [(1e30, 1e30), (10.0, 1e-30), (1e-30, 4.0)])
def test_rates_beyond_the_dtype(sigmas, cuda):
    """Affinities that are all 1, or 0 but for a pixel's own; none to what is outside the image."""
    p, colours = problem((1, 2, 1, 6, 7))
    assert_as_exact(cuda.ncut_sums(p, colours, 3, *sigmas), p, colours, (3, *sigmas))


def test_unaligned_memory(cuda, host):
    """Rows of whole fours that begin anywhere are not copied four at a time."""
    p, colours = problem(CASES[6][0])
    expected = cuda.ncut_sums(p, colours, *WIDER)
    moved = torch.empty(p.numel() + 1)[1:].view(p.shape).copy_(p)
    actual = cuda.ncut_sums(moved, colours, *WIDER)
    assert [launch["whole"] for launch in host.launches] == [1, 0]
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_fewer_blocks_than_parts(cuda, monkeypatch):
    p, colours = problem(CASES[6][0])
    expected = cuda.ncut_sums(p, colours, *WIDER)
    whole = cuda.launch
    few = lambda kernel, blocks, *rest, **named: whole(kernel, 2, *rest, **named)  # noqa: E731
    monkeypatch.setattr(cuda, "launch", few)
    actual = cuda.ncut_sums(p, colours, *WIDER)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


# --- The gradient ------------------------------------------------------------------------------

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 45), (1, 17, 37, 29)]  # more planes and pixels than a block has


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_equals_the_reference(shape, dtype, cuda, host, poisoned, monkeypatch):
    inputs = gradients(shape, dtype)
    expected = _reference.ncut_back(*inputs)
    grad = cuda.ncut_back(*inputs)
    assert torch.allclose(grad, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)
    (launch,) = host.launches
    batch, classes, height, width = shape
    assert launch["grid"] == batch * math.ceil(height * width / 1024) * math.ceil(classes / 8)
    whole = cuda.launch
    few = lambda kernel, blocks, *rest: whole(kernel, 2, *rest)  # noqa: E731
    monkeypatch.setattr(cuda, "launch", few)
    assert torch.equal(cuda.ncut_back(*inputs), grad)


# --- On a GPU ----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "radius"), [*CASES, ((2, 64, 3, 100, 130), 5)])
def test_gpu_equals_the_reference(shape, radius, dtype):
    pytest.importorskip("cupy")
    from fastseg.ops.ncut import _cuda

    p, colours = problem(shape, dtype)
    options = radius, *OPTIONS[1:]
    actual = _cuda.ncut_sums(p.cuda(), colours.cuda(), *options)
    assert_as_exact(actual, p, colours, options)
    for part, same in zip(actual, _cuda.ncut_sums(p.cuda(), colours.cuda(), *options), strict=True):
        assert torch.equal(part, same)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (2, 64, 100, 130)])
def test_gpu_gradient_equals_the_reference(shape, dtype):
    pytest.importorskip("cupy")
    from fastseg.ops.ncut import _cuda

    inputs = gradients(shape, dtype)
    grad = _cuda.ncut_back(*(x.cuda() for x in inputs)).cpu()
    assert torch.allclose(grad, _reference.ncut_back(*inputs), rtol=4 * torch.finfo(dtype).eps)
