"""csrc/cuda/box.cu and its launcher, on the CPU (conftest.py). On a GPU the tests at the end run
the kernels themselves."""

import math
from types import ModuleType

import pytest
import torch

from fastseg import backends, joint_sum
from fastseg.ops.joint import _reference, _sums, api
from tests.ops.joint_fields import fields, random

pytestmark = pytest.mark.usefixtures("poisoned")

SHAPES = [  # B, K, L, H, W; T
    ((1, 1, 1, 1, 1), 0),
    ((2, 7, 3, 35, 60), 2),  # tiles that are not full; windows of fewer than a thread has
    ((1, 27, 2, 20, 15), 5),  # more classes than a pass has
    ((2, 3, 4, 70, 56), 10),  # edges within reach above and below; rows of whole registers
]
DTYPES = [torch.float32, torch.float64]


@pytest.fixture
def cuda(launcher) -> ModuleType:
    return launcher("joint")


def problem(sizes, dtype=torch.float32):
    return *fields(sizes, dtype), random(*sizes[1:3], dtype=dtype, seed=2)


def assert_close(actual, expected, dtype):
    error = (actual.double().cpu() - expected).norm() / expected.norm()
    assert error <= (1e-14 if dtype == torch.float64 else 2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("sizes", "radius"), SHAPES)
def test_equals_the_reference(sizes, radius, dtype, cuda):
    p, q, weights = problem(sizes, dtype)
    joint = cuda.joint_sum(p, q, radius)
    assert joint.dtype == dtype
    assert_close(joint, _sums.joint_sum(_reference, p.double(), q.double(), radius), dtype)
    mixed = cuda.mixed_sum(weights, q, radius)
    assert mixed.dtype == dtype
    assert_close(mixed, _sums.mixed_sum(_reference, weights.double(), q.double(), radius), dtype)


def test_gradients_of_any_order(cuda, monkeypatch):
    monkeypatch.setattr(api, "DEVICES", ("cpu",))
    monkeypatch.setattr(backends, "load", lambda operator, device, backend: cuda)
    p, q, _ = (x.requires_grad_() for x in problem((1, 2, 2, 3, 4), torch.float64))
    joint = lambda p, q: joint_sum(p, q, 1)  # noqa: E731
    assert torch.autograd.gradcheck(joint, (p, q), fast_mode=True)
    assert torch.autograd.gradgradcheck(joint, (p, q), fast_mode=True)


def test_any_order_of_threads(host, cuda):
    """Threads in order, in the opposite order and in random ones: were there a race, some other
    order would give other bits."""
    p, q, weights = problem(SHAPES[1][0])
    expected = cuda.joint_sum(p, q, 2), cuda.mixed_sum(weights, q, 2)
    for host.order in (1, 2, 3):
        assert torch.equal(cuda.joint_sum(p, q, 2), expected[0])
        assert torch.equal(cuda.mixed_sum(weights, q, 2), expected[1])


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizer(sanitizer, sanitized):
    """Two images, of more planes than a pass has: no race, and no access outside memory."""
    sanitized("race_box.cpp", sanitizer, "-DPLANES=1", "-DRADIUS=3", "-DWIDTH=61")


@pytest.mark.parametrize(
    ("sizes", "radius", "planes", "passes"),
    [((2, 7, 3, 35, 60), 2, 2, 1), ((1, 27, 2, 20, 15), 5, 3, 2), ((1, 24, 1, 5, 5), 1, 4, 1)],
)
def test_launch(sizes, radius, planes, passes, host, cuda):
    """A tile of an image a block, and again for the planes that are too many; in one launch."""
    batch, classes, others, height, width = sizes
    p, q, weights = problem(sizes)
    cuda.joint_sum(p, q, radius)
    cuda.mixed_sum(weights, q, radius)
    tiles = math.ceil(height / 32) * math.ceil(width / 56)
    wide = (56 + 2 * radius) | 1
    for launch in host.launches:
        assert launch["jobs"] == launch["grid"] == batch * tiles * passes
        assert launch["block"] == 384
        assert launch["shared"] == 4 * (64 * (60 + wide) + others * 6 * planes)
        assert (launch["classes"], launch["others"]) == (classes, others)
        assert 6 * planes * passes >= classes


def test_sums_that_do_not_fit(host, cuda):
    host.shared = 1000
    p, q, weights = problem(SHAPES[1][0])
    assert torch.equal(cuda.joint_sum(p, q, 2), _sums.joint_sum(_reference, p, q, 2))
    assert torch.equal(cuda.mixed_sum(weights, q, 2), _sums.mixed_sum(_reference, weights, q, 2))
    assert host.launches == []


def test_fewer_blocks_than_tiles(cuda, monkeypatch):
    p, q, weights = problem(SHAPES[1][0])
    expected = cuda.joint_sum(p, q, 2), cuda.mixed_sum(weights, q, 2)
    whole = cuda.launch
    few = lambda kernel, blocks, *rest, **named: whole(kernel, 2, *rest, **named)  # noqa: E731
    monkeypatch.setattr(cuda, "launch", few)
    assert torch.equal(cuda.joint_sum(p, q, 2), expected[0])
    assert torch.equal(cuda.mixed_sum(weights, q, 2), expected[1])


# --- On a GPU ----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("sizes", "radius"), [*SHAPES, ((3, 24, 24, 100, 200), 10)])
def test_gpu_equals_the_reference(sizes, radius, dtype):
    pytest.importorskip("cupy")
    from fastseg.ops.joint import _cuda

    p, q, weights = problem(sizes, dtype)
    joint = _cuda.joint_sum(p.cuda(), q.cuda(), radius)
    assert_close(joint, _sums.joint_sum(_reference, p.double(), q.double(), radius), dtype)
    mixed = _cuda.mixed_sum(weights.cuda(), q.cuda(), radius)
    assert_close(mixed, _sums.mixed_sum(_reference, weights.double(), q.double(), radius), dtype)
    assert torch.equal(joint, _cuda.joint_sum(p.cuda(), q.cuda(), radius))
