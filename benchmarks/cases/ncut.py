"""The soft normalised cut and its gradient."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import fastseg

from ..images import photographs
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

SHAPES = ((5, 20, 224), (1, 64, 224), (10, 4, 224), (1, 20, 1024))  # B, K, side
GPU_SHAPES = ((10, 64, 224), *SHAPES)
QUICK_SHAPES = ((1, 5, 48),)
RADIUS, SIGMA_COLOR, SIGMA_SPACE = 5, 10.0, 4.0
NEIGHBOURS = 69
# Beyond it `unfold` wants more memory than a small machine has.
MOST_UNFOLDED = 6e6


def problem(batch: int, classes: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (B,K,H,W) float32 and photographs (B,3,H,W) uint8."""
    rng = torch.Generator().manual_seed(0)
    p = torch.randn((batch, classes, size, size), generator=rng).softmax(1)
    return p, photographs(batch, size)


def both_ways(loss: Callable, p: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Value and gradient."""
    p = p.detach().requires_grad_()
    value = loss(p, image, RADIUS, SIGMA_COLOR, SIGMA_SPACE)
    return value.detach(), *torch.autograd.grad(value.sum(), p)


def variants(backend: str) -> dict[str, Callable]:
    from ..peers import ncut as peers

    ours = partial(fastseg.soft_ncut, backend=backend)
    found: dict[str, Callable] = {
        backend: ours,
        "torch shift loop": peers.shift_loop,
        "torch unfold": peers.unfold,
    }
    if backend in ("triton", "cuda"):
        found["triton"] = partial(fastseg.soft_ncut, backend="triton")
        found["shift loop by torch.compile"] = compiled(peers.shift_loop)
    return found


def prepared(name: str, backend: str, shape: tuple[int, int, int]) -> Callable[[], Any]:
    """One call in a fresh process, warm from a small one."""
    loss = variants(backend)[name]
    both_ways(loss, *problem(1, 2, 32))
    return partial(both_ways, loss, *problem(*shape))


def same(work: Work, _: Any) -> Work:
    return work


@case("soft_ncut", "cpu", "gpu", operator="ncut_sums")
def soft_ncut(setup: Setup) -> Iterator[Problem]:
    """Soft normalised cut of photographs, radius 5, forward and backward."""
    goals = {"torch shift loop": ("≥", 3.0), "torch unfold": ("≥", 10.0)}
    for shape in QUICK_SHAPES if setup.quick else GPU_SHAPES if setup.gpu else SHAPES:
        batch, classes, size = shape
        p, image = (tensor.to(setup.device) for tensor in problem(*shape))
        # A difference, its square and a sum for each colour, 20 for an exponential, then a product
        # and a sum for each plane; p, its filtered planes and its gradient go through memory.
        flops = NEIGHBOURS * batch * size**2 * (9 + 20 + 2 * classes)
        work = Work(batch, flops=flops, bytes=4 * p.nbytes)

        def gate(results: dict[str, Any], p=p, image=image) -> None:
            reference = partial(fastseg.soft_ncut, backend="reference")
            exact = both_ways(reference, p.double(), image)
            require_close(results, exact, TOLERANCE[torch.float32])

        ways = []
        for name, loss in variants(setup.backend).items():
            if name == "torch unfold" and p.numel() > MOST_UNFOLDED and not setup.gpu:
                continue
            of_memory = partial(prepared, name, setup.backend, shape)
            memory = None if setup.gpu else partial(peak_of, of_memory)
            aim = None
            if name == setup.backend and shape == GPU_SHAPES[0]:
                aim = Aim("ms", 0.25 / batch)
            run = partial(both_ways, loss, p, image)
            ways.append(Variant(name, run, partial(same, work), goals.get(name), memory, aim))
        sizes = f"{batch}×{classes}×{size}×{size}"
        yield Problem(f"{sizes}, radius {RADIUS}, forward and backward", "image", ways, gate)
