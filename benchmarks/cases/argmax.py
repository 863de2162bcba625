"""The hard segments of CIRS and AIR, forward and backward."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import fastseg

from ..registry import Problem, Setup, Variant, Work, case, compiled, require

SHAPES = ((40, 4, 64), (16, 15, 128))  # B, K, side: the thesis' batch, and COCO-Stuff
GPU_SHAPES = (*SHAPES, (60, 15, 200))
QUICK_SHAPES = ((2, 4, 16),)


def both_ways(hard: Callable, p: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Value and gradient."""
    p = p.detach().requires_grad_()
    value = hard(p)
    return value.detach(), *torch.autograd.grad(value, p, weight)


def counted(work: Work, _: Any) -> Work:
    return work


def gate(results: dict[str, Any]) -> None:
    expected = results["argmax, copied gradient"]
    for name, result in results.items():
        for part, other in zip(result, expected, strict=True):
            require(torch.allclose(part, other, atol=1e-6), f"{name} differs from the thesis")


@case("argmax_in_place", "cpu", "gpu")
def argmax_in_place(setup: Setup) -> Iterator[Problem]:
    """`argmax_in_place` against what it replaces."""
    from ..peers import argmax as peers

    for batch, classes, side in (
        QUICK_SHAPES if setup.quick else GPU_SHAPES if setup.gpu else SHAPES
    ):
        rng = torch.Generator().manual_seed(0)
        shape = batch, classes, side, side
        p = torch.randn(shape, generator=rng).softmax(1).to(setup.device)
        weight = torch.randn(shape, generator=rng).to(setup.device)
        work = Work(batch, bytes=3 * p.nbytes)
        ways: tuple[tuple[str, Callable, tuple[str, float] | None], ...] = (
            ("fastseg", fastseg.argmax_in_place, None),
            ("argmax, copied gradient", peers.copied, ("≥", 2)),
            ("one-hot, added difference", peers.added, ("≥", 2)),
        )
        if setup.gpu:
            ways += (("the same by torch.compile", compiled(peers.added), None),)
        variants = [
            Variant(name, partial(both_ways, hard, p, weight), partial(counted, work), goal)
            for name, hard, goal in ways
        ]
        yield Problem(f"B={batch}, K={classes}, {side}×{side}", "image", variants, gate)
