"""The objectives of InfoSeg and ARL, forward and backward."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch

from fastseg.ops.scoring import _reference, api
from fastseg.ops.scoring._draw import derangement, displaced_positions

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

# B, K, P, side: the training of InfoSeg on a small batch, a large one, and few classes
INFOSEG_SHAPES = ((4, 21, 1024, 32), (16, 15, 1024, 32), (8, 3, 1024, 50))
GPU_INFOSEG_SHAPES = ((64, 15, 1024, 32), (16, 21, 1024, 32), (64, 3, 1024, 50))
# B, C, side, positions, radius
NCE_SHAPES = ((16, 128, 64, 64, 1), (60, 128, 64, 64, 1), (8, 256, 100, 512, 0))
QUICK_INFOSEG, QUICK_NCE = (2, 5, 32, 8), (3, 16, 16, 8, 1)
TAU = 0.8


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(device: str, *shapes: tuple[int, ...], std: float) -> list[torch.Tensor]:
    generator = seeded(0)
    return [(torch.randn(shape, generator=generator) * std).to(device) for shape in shapes]


def both_ways(loss: Callable, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Value and gradients."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    value = loss(*inputs)
    return value.detach(), *torch.autograd.grad(value, inputs)


# A call by its way: "fastseg", "eager", "compiled", the same by torch.compile, or "exact", the
# definition in double precision. Made by functions that a fresh process can import. Pairs and
# positions are drawn before, the same for all ways and every replay of a CUDA graph.


def infoseg_call(
    way: str, device: str, shape: tuple[int, ...], estimator: str, dtype: torch.dtype
) -> Callable[[], Any]:
    batch, classes, size, side = shape
    sizes = (batch, size, side, side), (batch, classes, size)
    inputs = [x.to(dtype) for x in draw(device, *sizes, std=size**-0.25)]
    partner = derangement(batch, seeded(1), torch.device(device))

    def ours(local: torch.Tensor, glob: torch.Tensor) -> torch.Tensor:
        return api.loss_of_pairs(local, glob, partner, TAU, estimator)

    def definition(local: torch.Tensor, glob: torch.Tensor) -> torch.Tensor:
        return _reference.infoseg_loss(local, glob, partner, TAU, estimator, "soft")

    return call(way, ours, definition, definition, inputs)


def nce_call(way: str, device: str, shape: tuple[int, ...]) -> Callable[[], Any]:
    from ..peers import scoring as peers

    batch, channels, side, positions, radius = shape
    inputs = draw(device, *2 * [(batch, channels, side, side)], std=channels**-0.25)
    place = torch.device(device)
    at, at2 = displaced_positions(positions, side, side, radius, seeded(1), place)

    def ours(y: torch.Tensor, y2: torch.Tensor) -> torch.Tensor:
        return api.loss_at(y, y2, at, at2)

    eager = partial(peers.info_nce, at=at, at2=at2)
    return call(way, ours, eager, partial(_reference.info_nce, at=at, at2=at2), inputs)


def call(
    way: str, ours: Callable, eager: Callable, exact: Callable, inputs: list[torch.Tensor]
) -> Callable[[], Any]:
    if way == "exact":
        return partial(both_ways, exact, [x.double() for x in inputs])
    if way == "compiled":
        return partial(both_ways, compiled(eager), inputs)
    return partial(both_ways, {"fastseg": ours, "eager": eager}[way], inputs)


def warm(make: Callable, way: str, small: tuple, arguments: tuple) -> Callable[[], Any]:
    """For `peak_of`: what stays loaded is, what is freed was small."""
    make(way, "cpu", *small)()
    return make(way, "cpu", *arguments)


def compare(
    setup: Setup,
    sizes: str,
    make: Callable,
    small: tuple,
    arguments: tuple,
    work: Work,
    goal: float,
    aim: Aim | None = None,
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """Ours and eager PyTorch, with the peak memory of each."""

    def variant(way: str) -> Variant:
        memory = partial(peak_of, partial(warm, make, way, small, arguments))
        return Variant(
            way,
            make(way, setup.device, *arguments),
            lambda _: work,
            ("≥", goal) if way == "eager" else None,
            None if setup.quick or setup.gpu else memory,
            aim if way == "fastseg" else None,
        )

    def gate(results: dict[str, Any]) -> None:
        require_close(results, make("exact", setup.device, *arguments)(), TOLERANCE[dtype])

    names = ("fastseg", "eager", "compiled") if setup.gpu else ("fastseg", "eager")
    ways = [variant(name) for name in names]
    return Problem(f"{sizes}, forward and backward", "call", ways, gate)


@case("infoseg_loss", "cpu", "gpu")
def infoseg_loss(setup: Setup) -> Iterator[Problem]:
    """InfoSeg's bound and its gradients against the assigned features stored."""
    shapes = INFOSEG_SHAPES if not setup.gpu else GPU_INFOSEG_SHAPES
    dtypes = (torch.float32, torch.bfloat16) if setup.gpu else (torch.float32,)
    for shape, dtype in product((QUICK_INFOSEG,) if setup.quick else shapes, dtypes):
        batch, classes, size, side = shape
        # Both kinds of scores, then the gradients of L and H; each reads or writes L.
        plane = 3 * batch * size * side * side
        work = Work(1, flops=2 * plane * 2 * classes, bytes=dtype.itemsize * plane)
        for estimator in ("jsd", "dv"):
            kind = ", bfloat16" if dtype == torch.bfloat16 else ""
            sizes = f"B={batch}, K={classes}, P={size}, {side}×{side}, {estimator}{kind}"
            small, arguments = (QUICK_INFOSEG, estimator, dtype), (shape, estimator, dtype)
            aim = Aim("copy", 0.5)
            yield compare(setup, sizes, infoseg_call, small, arguments, work, 3, aim, dtype)


@case("info_nce", "cpu", "gpu")
def info_nce(setup: Setup) -> Iterator[Problem]:
    """ARL's bound and its gradients against a cross-entropy over all pairs."""
    for shape in (QUICK_NCE,) if setup.quick else NCE_SHAPES:
        batch, channels, side, positions, radius = shape
        rows = batch * positions
        gradients = 2 * batch * channels * side * side  # dense, though mostly zeros
        work = Work(1, flops=3 * 2 * rows * rows * channels, bytes=4 * gradients)
        sizes = f"B={batch}, C={channels}, {side}×{side}, {positions} positions, T={radius}"
        yield compare(setup, sizes, nce_call, (QUICK_NCE,), (shape,), work, goal=1)
