"""ordered_attention on a GPU, where PyTorch's FlashAttention does the work."""

import pytest
import torch

from fastseg import ordered_attention
from fastseg.nn import AutoregressiveNet
from fastseg.ops.attention import _reference
from fastseg.orderings import ALL

pytestmark = pytest.mark.gpu

TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-2}


def problem(dtype, *shape):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to("cuda", dtype) for _ in range(4)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("ordering", [0, *ALL])
def test_equals_the_definition(ordering, dtype):
    *inputs, grad = problem(dtype, 2, 3, 13 * 17, 32)
    parts = []
    for attention, wide in ((ordered_attention, dtype), (_reference.ordered_attention, None)):
        given = [x.to(wide or torch.float64).requires_grad_() for x in inputs]
        q, k, v = given
        out = attention(q, k, v, 13, 17, ordering)
        parts.append([out, *torch.autograd.grad(out, given, grad.to(out))])
    for actual, exact in zip(*parts, strict=True):
        assert (actual - exact).norm() <= TOLERANCE[dtype] * exact.norm()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_memory_grows_with_the_pixels(dtype):
    *inputs, grad = problem(dtype, 1, 1, 128 * 128, 64)
    q, k, v = (x.requires_grad_() for x in inputs)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.autograd.grad(ordered_attention(q, k, v, 128, 128, 9), (q, k, v), grad)
    assert torch.cuda.max_memory_allocated() - before < 128**4 * grad.element_size() // 4


def test_can_be_captured():
    q, k, v, _ = problem(torch.bfloat16, 2, 3, 20 * 20, 32)
    expected = ordered_attention(q, k, v, 20, 20, 12)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = ordered_attention(q, k, v, 20, 20, 12)
    graph.replay()
    assert torch.equal(out, expected)


def test_a_network_waits_for_nothing():
    net = AutoregressiveNet(5, widths=5 * (16,), attention=True).cuda()
    x = torch.rand(2, 3, 64, 64, device="cuda")
    net(x, (1, 9))  # the orders are copied to the device once
    torch.cuda.set_sync_debug_mode("error")
    try:
        p, q = net(x, (1, 9))
        (p.sum() + q.sum()).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
