"""What every operator keeps to on a GPU: the CPU's results, the same bits every time, the current
stream, no wait for the device, CUDA graphs, and a second card. On a machine without one the calls
are made on the CPU, so that they are known to be right."""

from collections.abc import Callable
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F

import fastseg
from fastseg.ops.scoring import api as scoring

HAS_GPU = torch.cuda.is_available()
HERE = "cuda" if HAS_GPU else "cpu"

Tensors = tuple[torch.Tensor, ...]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def both_ways(function: Callable, *inputs: torch.Tensor) -> Tensors:
    """Value and gradients."""
    given = [x.detach().requires_grad_() for x in inputs]
    out = function(*given)
    found = out if isinstance(out, tuple) else (out,)
    total = sum(part.float().square().mean() for part in found)
    return *(part.detach() for part in found), *torch.autograd.grad(total, given)


# Smooth: in noise a rounding decides many a pixel.
IMAGES = F.interpolate(random(3, 3, 5, 5), (40, 36), mode="bilinear")
FEATURES = random(3, 5, 40, 36) - 0.5
LABELS = (torch.arange(40)[:, None] // 9 * 4 + torch.arange(36) // 10).expand(3, -1, -1).clone()
FIELDS = random(3, 4, 20, 24).softmax(1), random(3, 4, 20, 24, seed=1).softmax(1)
WEIGHT, BIAS = random(6, 5, 3, 3) - 0.5, random(6)
TOKENS = tuple(random(2, 2, 48, 16, seed=s) for s in range(3))
LOCAL, GLOBAL, PARTNER = random(3, 8, 6, 7) - 0.5, random(3, 4, 8) - 0.5, torch.tensor([1, 2, 0])
PLACES = torch.tensor([3, 8, 20, 30])


def bound(local: torch.Tensor, glob: torch.Tensor, partner: torch.Tensor) -> Tensors:
    loss = lambda x, y: scoring.loss_of_pairs(x, y, partner, 0.8, "jsd")  # noqa: E731
    return both_ways(loss, local, glob)


def pooled(reduce: str) -> Callable:
    def call(x, labels):
        return both_ways(lambda x: fastseg.region_pool(x, labels, 20, reduce), x)

    return call


def counted(pred: torch.Tensor, target: torch.Tensor) -> Tensors:
    metrics = fastseg.SegmentationMetrics(20, 20)
    metrics.update(pred, target)
    return (metrics.counts,)


# Inputs, then the call.
CALLS: dict[str, tuple[Tensors, Callable[..., Tensors]]] = {
    "gaussian_inpaint": (
        (IMAGES, (random(3, 1, 40, 36) > 0.3).float()),
        lambda x, mask: both_ways(fastseg.gaussian_inpaint, x, mask),
    ),
    "iem": ((IMAGES,), lambda x: tuple(vars(fastseg.iem(x, (20,), 12)).values())),
    "region_index": ((LABELS,), lambda labels: fastseg.region_index(labels, 20).tensors[3:]),
    "region_pool, mean": ((FEATURES, LABELS), pooled("mean")),
    "region_pool, max": ((FEATURES, LABELS), pooled("max")),
    "region_unpool": (
        (random(3, 20, 5), LABELS),
        lambda z, labels: both_ways(lambda z: fastseg.region_unpool(z, labels), z),
    ),
    "region_spp": (
        (FEATURES, LABELS),
        lambda x, labels: both_ways(lambda x: fastseg.region_spp(x, labels, 20), x),
    ),
    "region_resize": (
        (FEATURES, LABELS),
        lambda x, labels: both_ways(lambda x: fastseg.region_resize(x, labels, 20), x),
    ),
    "slic": ((IMAGES,), lambda x: (fastseg.slic(x, 12, convert2lab=False),)),
    "masked_conv2d": (
        (FEATURES, WEIGHT, BIAS),
        lambda *given: both_ways(lambda x, w, b: fastseg.masked_conv2d(x, w, b, 2), *given),
    ),
    "masked_conv2d_pair": (
        (FEATURES, WEIGHT, BIAS),
        lambda *given: both_ways(lambda x, w, b: fastseg.masked_conv2d_pair(x, w, b), *given),
    ),
    "ordered_attention": (
        TOKENS,
        lambda *given: both_ways(
            lambda q, k, v: fastseg.ordered_attention(q, k, v, 6, 8, 10), *given
        ),
    ),
    "displaced_joint, direct": (
        FIELDS,
        lambda p, q: both_ways(
            lambda p, q: fastseg.displaced_joint(p, q, 2, algorithm="direct"), p, q
        ),
    ),
    "displaced_joint, fft": (
        FIELDS,
        lambda p, q: both_ways(
            lambda p, q: fastseg.displaced_joint(p, q, 2, algorithm="fft"), p, q
        ),
    ),
    "joint_sum": (
        FIELDS,
        lambda p, q: both_ways(lambda p, q: fastseg.joint_sum(p, q, 3), p, q),
    ),
    "iic_loss": (FIELDS, lambda p, q: both_ways(lambda p, q: fastseg.iic_loss(p, q, 2), p, q)),
    "soft_ncut": (
        (FIELDS[0], IMAGES[..., :20, :24].contiguous()),
        lambda p, x: both_ways(lambda p: fastseg.soft_ncut(p, x), p),
    ),
    "infoseg_loss": ((LOCAL, GLOBAL, PARTNER), bound),
    "infoseg_loss, bfloat16": ((LOCAL.bfloat16(), GLOBAL.bfloat16(), PARTNER), bound),
    "info_nce": (
        (LOCAL, LOCAL.flip(0), PLACES, PLACES + 1),
        lambda y, z, at, at2: both_ways(lambda y, z: scoring.loss_at(y, z, at, at2), y, z),
    ),
    "argmax_in_place": ((FIELDS[0],), lambda p: both_ways(fastseg.argmax_in_place, p)),
    "SegmentationMetrics": ((LABELS, LABELS.flip(1)), counted),
}

every = pytest.mark.parametrize("name", CALLS)


@pytest.fixture(autouse=True)
def _full_precision():
    """cuDNN would round float32 to TF32."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
        yield


def on(device: str, name: str) -> tuple[list[torch.Tensor], Callable[..., Tensors]]:
    inputs, call = CALLS[name]
    if name.startswith(("iem", "slic", "region")) and device.startswith("cuda"):
        pytest.importorskip("cupy")
    return [x.to(device) for x in inputs], call


def assert_equal(actual: Tensors, expected: Tensors) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one, other)


@every
def test_the_same_as_on_the_cpu_and_the_same_bits_every_time(name):
    inputs, call = on(HERE, name)
    actual = call(*inputs)
    for part, expected in zip(actual, call(*CALLS[name][0]), strict=True):
        assert part.device.type == HERE
        assert part.shape == expected.shape
        if part.is_floating_point():
            rtol = 2e-2 if part.dtype == torch.bfloat16 else 1e-3
            torch.testing.assert_close(part.cpu(), expected, rtol=rtol, atol=1e-4)
        else:  # labels and masks; rounding may decide a few
            assert (part.cpu() == expected).double().mean() >= 0.99
    for _ in range(3):
        assert_equal(call(*inputs), actual)


@contextmanager
def no_wait():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@every
def test_on_a_stream_that_waits_for_its_input(name):
    inputs, call = on("cuda", name)
    expected = call(*inputs)
    late = [torch.zeros_like(x) for x in inputs]
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        for x, y in zip(late, inputs, strict=True):
            x.copy_(y)
        with no_wait():
            actual = call(*late)
    side.synchronize()
    assert_equal(actual, expected)


@pytest.mark.gpu
@every
def test_replays_from_a_cuda_graph(name):
    inputs, call = on("cuda", name)
    other = [x.flip(0) if len(x) == 3 else x for x in inputs]
    if name.startswith("infoseg_loss"):
        other[2] = inputs[2]  # who is paired with whom stays a permutation without fixed points
    expected = call(*other)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call(*inputs)
    for x, y in zip(inputs, other, strict=True):
        x.copy_(y)
    graph.replay()
    assert_equal(captured, expected)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU")
@every
def test_on_a_second_card_while_the_first_is_current(name):
    inputs, call = on("cuda:1", name)
    first, _ = on("cuda:0", name)
    expected = call(*first)
    assert torch.cuda.current_device() == 0
    actual = call(*inputs)
    assert all(part.device.index == 1 for part in actual)
    assert_equal(tuple(part.to("cuda:0") for part in actual), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [n for n, (x, _) in CALLS.items() if n not in ("slic", "iem")])
def test_half_precision(name, dtype):
    """As of the same numbers in full precision."""
    inputs, call = on(HERE, name)
    half = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
    wide = [x.float() if x.is_floating_point() else x for x in half]
    if name == "gaussian_inpaint":
        pytest.skip("of float32 and float64 alone")
    for part, expected in zip(call(*half), call(*wide), strict=True):
        error = (part.double() - expected.double()).norm()
        assert error <= 4e-2 * expected.double().norm() + 1e-6
