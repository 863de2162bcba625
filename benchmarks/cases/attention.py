"""Attention in the order of a scan, forward and backward."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

import fastseg
from fastseg.nn import OrderedAttention
from fastseg.ops.attention import _reference
from fastseg.orderings import attention_mask, permutation, ranks

from ..memory import peak_of
from ..registry import TOLERANCE, Aim, Problem, Setup, Variant, Work, case, require_close

# batch, heads, side, d, ordering: AC's at a stride of 4, and of more heads, pixels, or both
SHAPES = ((1, 1, 50, 128, 9), (4, 1, 50, 128, 2), (2, 4, 50, 32, 16), (1, 1, 64, 64, 9))
GPU_SHAPES = ((4, 1, 50, 128, 2), (60, 1, 50, 128, 9), (60, 4, 50, 32, 16), (8, 8, 96, 64, 9))
QUICK_SHAPES = ((1, 2, 12, 8, 9),)
GOALS = {
    "PyTorch, in order": ("≥", 0.87),
    "causal, in order already": ("≥", 0.87),
    "materialised mask": ("≥", 1.9),
    "boolean mask": ("≥", 1.5),
    "FlexAttention": ("≥", 1),
}


def dtype_on(device: str) -> torch.dtype:
    """FlashAttention is for half precision."""
    return torch.float32 if device == "cpu" else torch.bfloat16


def shapes_of(setup: Setup) -> tuple[tuple[int, ...], ...]:
    return QUICK_SHAPES if setup.quick else GPU_SHAPES if setup.gpu else SHAPES


def words(shape: tuple[int, ...]) -> str:
    batch, heads, side, d, ordering = shape
    kind = "zigzag" if ordering > 8 else "raster"
    return f"B={batch}, {heads} heads of {d}, {side}×{side}, {kind}, forward and backward"


def both_ways(attention: Callable, inputs: list[torch.Tensor], *options: Any) -> list[torch.Tensor]:
    """Value, and gradients of q, k and v."""
    *inputs, grad = inputs
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = attention(*inputs, *options)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def call(way: str, shape: tuple[int, ...], device: str) -> Callable[[], Any]:
    """One call by its way; made by a function that a fresh process can import."""
    from ..peers import attention as peers

    batch, heads, side, d, ordering = shape
    generator = torch.Generator().manual_seed(0)
    size = batch, heads, side * side, d
    dtype = dtype_on(device)
    inputs = [torch.randn(size, generator=generator).to(device, dtype) for _ in range(4)]
    if way in ("fastseg", "PyTorch, in order"):
        # On a GPU they are one.
        chosen = "auto" if way == "fastseg" else "torch"
        ours = partial(fastseg.ordered_attention, backend=chosen)
        return partial(both_ways, ours, inputs, side, side, ordering)
    if way == "exact":
        inputs = [x.double() for x in inputs]
        return partial(both_ways, _reference.ordered_attention, inputs, side, side, ordering)
    if way == "causal, in order already":
        order = permutation(side, side, ordering).to(device)
        causal = partial(F.scaled_dot_product_attention, is_causal=True)
        return partial(both_ways, causal, [x[:, :, order] for x in inputs])
    if way == "FlexAttention":
        ordered = peers.flex(ranks(side, side, ordering).flatten().to(device))
        return partial(both_ways, ordered, inputs)
    attention = {"materialised mask": peers.materialised, "boolean mask": peers.masked}[way]
    hidden = ~attention_mask(side, side, ordering).to(device)
    return partial(both_ways, attention, inputs, hidden)


def warm(way: str, shape: tuple[int, ...]) -> Callable[[], Any]:
    """For `peak_of`: what stays loaded is, what is freed was small."""
    call(way, QUICK_SHAPES[0], "cpu")()
    return call(way, shape, "cpu")


def same(work: Work, _: Any) -> Work:
    return work


@case("ordered_attention", "cpu", "gpu", operator="ordered_attention")
def ordered_attention(setup: Setup) -> Iterator[Problem]:
    """Attention to the pixels before each in an ordering, against masks and the causal bound."""
    # On a GPU ours is PyTorch's in order; FlexAttention is for GPUs.
    left_out = "PyTorch, in order" if setup.gpu else "FlexAttention"
    dtype = dtype_on(setup.device)
    for shape in shapes_of(setup):
        batch, heads, side, d, _ = shape
        pairs = batch * heads * side**2 * (side**2 + 1) // 2
        # Two products of each pair forward, five backward.
        traffic = 8 * batch * heads * side**2 * d * dtype.itemsize
        work = Work(1, 7 * 2 * pairs * d, traffic, "bf16" if setup.gpu else "fp32")

        def gate(results: dict[str, Any], shape=shape) -> None:
            *_, side, _, ordering = shape
            places = ranks(side, side, ordering).flatten().to(setup.device)
            exact = call("exact", shape, setup.device)()
            turned = {
                name: [part[:, :, places] for part in result] if "causal" in name else result
                for name, result in results.items()
            }
            require_close(turned, exact, TOLERANCE[dtype])

        ways = []
        for way in ("fastseg", *GOALS):
            if way == left_out:
                continue
            memory = partial(peak_of, partial(warm, way, shape))
            measured = not setup.gpu and not setup.quick
            run = call(way, shape, setup.device)
            aim = Aim("ratio", 0.95) if "causal" in way else None
            options = GOALS.get(way), memory if measured else None, aim
            ways.append(Variant(way, run, partial(same, work), *options))
        yield Problem(words(shape), "call", ways, gate)


def through_block(
    block: OrderedAttention, ordering: int, x: torch.Tensor, grad: torch.Tensor
) -> list[torch.Tensor]:
    """Value, and gradients of x and the parameters."""
    x, grad = (tensor.detach().to(block.qkv.weight.dtype) for tensor in (x, grad))
    out = block(x.requires_grad_(), ordering)
    return [out.detach(), *torch.autograd.grad(out, (x, *block.parameters()), grad)]


@case("attention_block", "cpu", "gpu", operator="ordered_attention")
def attention_block(setup: Setup) -> Iterator[Problem]:
    """AC's block, which moves the pixels once for all its maps, against itself in order already."""
    dtype, precision = dtype_on(setup.device), "bf16" if setup.gpu else "fp32"
    for shape in shapes_of(setup):
        batch, heads, side, d, ordering = shape
        channels = heads * d
        torch.manual_seed(0)
        block = OrderedAttention(channels, heads=heads, backend=setup.backend)
        block.to(setup.device, dtype)
        exact = deepcopy(block).double()
        exact.backend = "reference"
        pictures = torch.randn(2, batch, side, side, channels).to(setup.device, dtype)
        x, grad = pictures.movedim(4, 2).unbind()  # in channels last
        orderings = {"fastseg": ordering, "in order already": 1}

        def gate(
            results: dict[str, Any], orderings=orderings, exact=exact, given=(x, grad)
        ) -> None:
            for name, result in results.items():
                expected = through_block(exact, orderings[name], *given)
                require_close({name: result}, expected, TOLERANCE[dtype])

        pixels, pairs = batch * side**2, batch * heads * side**2 * (side**2 + 1) // 2
        # Five maps of C to C, three products of each; as above of the pairs.
        flops = 3 * 5 * 2 * pixels * channels**2 + 7 * 2 * pairs * d
        work = Work(1, flops, 4 * pixels * channels * dtype.itemsize, precision)
        ways = [
            Variant(
                name,
                partial(through_block, block, way, x, grad),
                partial(same, work),
                aim=Aim("ratio", 0.95) if name != "fastseg" else None,
            )
            for name, way in orderings.items()
        ]
        yield Problem(words(shape), "call", ways, gate)
