"""The masked convolution and its gradient."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch

import fastseg

from ..memory import peak_of
from ..registry import (
    TOLERANCE,
    Aim,
    Problem,
    Setup,
    Variant,
    Work,
    case,
    compiled,
    require_close,
)

SHAPES = ((4, 64, 128, 50), (4, 256, 512, 50))  # B, C, O, side
GPU_SHAPES = (*SHAPES, (60, 128, 128, 50))
QUICK_SHAPES = ((2, 8, 16, 20),)
PEER = "pad, mask, conv2d"


def problem(
    shape: tuple[int, int, int, int], channels_last: bool, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, ...]:
    """x, weight, bias, and a gradient of the result."""
    batch, channels, outs, size = shape
    rng = torch.Generator().manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, grad = (
        torch.randn((batch, count, size, size), generator=rng).to(memory_format=layout)
        for count in (channels, outs)
    )
    weight = torch.randn((outs, channels, 3, 3), generator=rng) / (3 * channels**0.5)
    tensors = x, weight, torch.randn(outs, generator=rng), grad
    return tuple(tensor.to(dtype) for tensor in tensors)


def both_ways(convolve: Callable, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Value and gradients."""
    *inputs, grad = tensors
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    out = convolve(*inputs)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def variants(backend: str, ordering: int) -> dict[str, Callable]:
    from ..peers import masked_conv as peers

    return {
        backend: partial(fastseg.masked_conv2d, ordering=ordering, backend=backend),
        PEER: partial(peers.pad_and_mask, ordering=ordering),
    }


def prepared(
    name: str, backend: str, ordering: int, shape: tuple[int, int, int, int], channels_last: bool
) -> Callable[[], Any]:
    """One call in a fresh process, warm from a small one."""
    convolve = variants(backend, ordering)[name]
    _, channels, outs, _ = shape
    both_ways(convolve, *problem((1, channels, outs, 8), channels_last))
    return partial(both_ways, convolve, *problem(shape, channels_last))


def same(work: Work, _: Any) -> Work:
    return work


@case("masked_conv2d", "cpu", "gpu", operator="masked_conv2d")
def masked_conv2d(setup: Setup) -> Iterator[Problem]:
    """3×3 masked convolution, forward and backward."""
    shapes = QUICK_SHAPES if setup.quick else GPU_SHAPES if setup.gpu else SHAPES
    layouts = [(torch.float32, False), (torch.float32, True)]
    if setup.gpu:
        layouts = [(torch.bfloat16, True), *layouts]
    for shape, (dtype, channels_last), ordering in product(shapes, layouts, (1, 2)):
        tensors = tuple(t.to(setup.device) for t in problem(shape, channels_last, dtype))
        batch, channels, outs, size = shape
        # 8 live taps; x, the result and their gradients go through memory, the weights little.
        flops = 3 * 2 * 8 * batch * size**2 * channels * outs
        traffic = 2 * (tensors[0].nbytes + tensors[3].nbytes)
        work = Work(1, flops, traffic, "fp32" if dtype == torch.float32 else "bf16")

        def gate(results: dict[str, Any], ordering=ordering, tensors=tensors, dtype=dtype) -> None:
            reference = variants("reference", ordering)["reference"]
            exact = both_ways(reference, *(tensor.double() for tensor in tensors))
            require_close(results, exact, TOLERANCE[dtype])

        ways = []
        for name, convolve in variants(setup.backend, ordering).items():
            of_memory = partial(prepared, name, setup.backend, ordering, shape, channels_last)
            memory = None if setup.gpu else partial(peak_of, of_memory)
            goal, aim = (("≥", 1.0), Aim("ratio", 1.0)) if name == PEER else (None, None)
            run = partial(both_ways, convolve, *tensors)
            ways.append(Variant(name, run, partial(same, work), goal, memory, aim))
        if setup.gpu:
            kernel = partial(fastseg.masked_conv2d, ordering=ordering, backend="triton")
            theirs = compiled(variants(setup.backend, ordering)[PEER])
            for name, convolve in (("triton", kernel), (f"{PEER} by torch.compile", theirs)):
                ways.append(Variant(name, partial(both_ways, convolve, *tensors), ways[0].work))
        layout = "channels last" if channels_last else "NCHW"
        layout += ", bfloat16" if dtype == torch.bfloat16 else ""
        sizes = f"{batch}×{channels}→{outs}×{size}×{size}"
        yield Problem(f"{sizes}, {layout}, ordering {ordering}", "call", ways, gate)
