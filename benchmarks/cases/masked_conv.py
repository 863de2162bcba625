"""The masked convolution and its gradient."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch

import fastseg

from ..memory import peak_of
from ..registry import Problem, Setup, Variant, Work, case, require

SHAPES = ((4, 64, 128, 50), (4, 256, 512, 50))  # B, C, O, side
QUICK_SHAPES = ((2, 8, 16, 20),)
PEER = "pad, mask, conv2d"


def problem(shape: tuple[int, int, int, int], channels_last: bool) -> tuple[torch.Tensor, ...]:
    """x, weight, bias, and a gradient of the result."""
    batch, channels, outs, size = shape
    rng = torch.Generator().manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, grad = (
        torch.randn((batch, count, size, size), generator=rng).to(memory_format=layout)
        for count in (channels, outs)
    )
    weight = torch.randn((outs, channels, 3, 3), generator=rng) / (3 * channels**0.5)
    return x, weight, torch.randn(outs, generator=rng), grad


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
    shapes = QUICK_SHAPES if setup.quick else SHAPES
    for shape, channels_last, ordering in product(shapes, (False, True), (1, 2)):
        tensors = tuple(t.to(setup.device) for t in problem(shape, channels_last))
        batch, channels, outs, size = shape
        # 8 live taps; x, the result and their gradients go through memory, the weights little.
        flops = 3 * 2 * 8 * batch * size**2 * channels * outs
        work = Work(1, flops=flops, bytes=2 * (tensors[0].nbytes + tensors[3].nbytes))

        def gate(results: dict[str, Any], ordering=ordering, tensors=tensors) -> None:
            reference = variants("reference", ordering)["reference"]
            exact = both_ways(reference, *(tensor.double() for tensor in tensors))
            for name, result in results.items():
                for part, expected in zip(result, exact, strict=True):
                    error = ((part - expected).norm() / expected.norm()).item()
                    require(error <= 1e-5, f"{name}: relative error {error:.2e}, need 1e-5")

        ways = []
        for name, convolve in variants(setup.backend, ordering).items():
            of_memory = partial(prepared, name, setup.backend, ordering, shape, channels_last)
            memory = partial(peak_of, of_memory) if setup.device == "cpu" else None
            goal = ("≥", 1.0) if name == PEER else None
            run = partial(both_ways, convolve, *tensors)
            ways.append(Variant(name, run, partial(same, work), goal, memory))
        layout = "channels last" if channels_last else "NCHW"
        sizes = f"{batch}×{channels}→{outs}×{size}×{size}"
        yield Problem(f"{sizes}, {layout}, ordering {ordering}", "call", ways, gate)
