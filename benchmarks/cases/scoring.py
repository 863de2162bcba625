"""The objectives of InfoSeg and ARL, forward and backward."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import fastseg
from fastseg.ops.scoring import _reference
from fastseg.ops.scoring._draw import derangement, displaced_positions

from ..memory import peak_of
from ..registry import Problem, Setup, Variant, Work, case, require

# B, K, P, side: the training of InfoSeg on a small batch, a large one, and few classes
INFOSEG_SHAPES = ((4, 21, 1024, 32), (16, 15, 1024, 32), (8, 3, 1024, 50))
# B, C, side, positions, radius
NCE_SHAPES = ((16, 128, 64, 64, 1), (60, 128, 64, 64, 1), (8, 256, 100, 512, 0))
QUICK_INFOSEG, QUICK_NCE = (2, 5, 32, 8), (3, 16, 16, 8, 1)
TAU = 0.8
CPU = torch.device("cpu")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shapes: tuple[int, ...], std: float) -> list[torch.Tensor]:
    generator = seeded(0)
    return [torch.randn(shape, generator=generator) * std for shape in shapes]


def both_ways(loss: Callable, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Value and gradients."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    value = loss(*inputs)
    return value.detach(), *torch.autograd.grad(value, inputs)


def check_close(results: dict[str, Any], exact: tuple[torch.Tensor, ...]) -> None:
    """Each value and gradient against the fp64 reference's."""
    for name, result in results.items():
        for part, expected in zip(result, exact, strict=True):
            error = ((part - expected).norm() / expected.norm()).item()
            require(error <= 1e-5, f"{name}: relative error {error:.2e}, need 1e-5")


# A call by its way: "fastseg", "eager", or "exact", the definition in double precision. Made by
# functions that a fresh process can import.


def infoseg_call(way: str, shape: tuple[int, ...], estimator: str) -> Callable[[], Any]:
    batch, classes, size, side = shape
    inputs = draw((batch, size, side, side), (batch, classes, size), std=size**-0.25)

    def ours(local: torch.Tensor, glob: torch.Tensor) -> torch.Tensor:
        return fastseg.infoseg_loss(local, glob, TAU, estimator, generator=seeded(1))

    def definition(local: torch.Tensor, glob: torch.Tensor) -> torch.Tensor:
        partner = derangement(batch, seeded(1), CPU)
        return _reference.infoseg_loss(local, glob, partner, TAU, estimator, "soft")

    return call(way, {"fastseg": ours, "eager": definition, "exact": definition}, inputs)


def nce_call(way: str, shape: tuple[int, ...]) -> Callable[[], Any]:
    from ..peers import scoring as peers

    batch, channels, side, positions, radius = shape
    inputs = draw(*2 * [(batch, channels, side, side)], std=channels**-0.25)
    at, at2 = displaced_positions(positions, side, side, radius, seeded(1), CPU)

    def ours(y: torch.Tensor, y2: torch.Tensor) -> torch.Tensor:
        return fastseg.info_nce(y, y2, positions, radius, seeded(1))

    eager = partial(peers.info_nce, at=at, at2=at2)
    exact = partial(_reference.info_nce, at=at, at2=at2)
    return call(way, {"fastseg": ours, "eager": eager, "exact": exact}, inputs)


def call(way: str, losses: dict[str, Callable], inputs: list[torch.Tensor]) -> Callable[[], Any]:
    dtype = torch.float64 if way == "exact" else torch.float32
    return partial(both_ways, losses[way], [x.to(dtype) for x in inputs])


def warm(make: Callable, way: str, small: tuple, arguments: tuple) -> Callable[[], Any]:
    """For `peak_of`: what stays loaded is, what is freed was small."""
    make(way, *small)()
    return make(way, *arguments)


def compare(
    setup: Setup,
    sizes: str,
    make: Callable,
    small: tuple,
    arguments: tuple,
    work: Work,
    goal: float,
) -> Problem:
    """Ours and eager PyTorch, with the peak memory of each."""

    def variant(way: str) -> Variant:
        memory = partial(peak_of, partial(warm, make, way, small, arguments))
        return Variant(
            way,
            make(way, *arguments),
            lambda _: work,
            ("≥", goal) if way == "eager" else None,
            None if setup.quick else memory,
        )

    def gate(results: dict[str, Any]) -> None:
        check_close(results, make("exact", *arguments)())

    ways = [variant("fastseg"), variant("eager")]
    return Problem(f"{sizes}, forward and backward", "call", ways, gate)


@case("infoseg_loss", "cpu")
def infoseg_loss(setup: Setup) -> Iterator[Problem]:
    """InfoSeg's bound and its gradients against the assigned features stored."""
    for shape in (QUICK_INFOSEG,) if setup.quick else INFOSEG_SHAPES:
        batch, classes, size, side = shape
        # Both kinds of scores, then the gradients of L and H; each reads or writes L.
        plane = 3 * batch * size * side * side
        work = Work(1, flops=2 * plane * 2 * classes, bytes=4 * plane)
        for estimator in ("jsd", "dv"):
            sizes = f"B={batch}, K={classes}, P={size}, {side}×{side}, {estimator}"
            small, arguments = (QUICK_INFOSEG, estimator), (shape, estimator)
            yield compare(setup, sizes, infoseg_call, small, arguments, work, goal=3)


@case("info_nce", "cpu")
def info_nce(setup: Setup) -> Iterator[Problem]:
    """ARL's bound and its gradients against a cross-entropy over all pairs."""
    for shape in (QUICK_NCE,) if setup.quick else NCE_SHAPES:
        batch, channels, side, positions, radius = shape
        rows = batch * positions
        gradients = 2 * batch * channels * side * side  # dense, though mostly zeros
        work = Work(1, flops=3 * 2 * rows * rows * channels, bytes=4 * gradients)
        sizes = f"B={batch}, C={channels}, {side}×{side}, {positions} positions, T={radius}"
        yield compare(setup, sizes, nce_call, (QUICK_NCE,), (shape,), work, goal=1)
