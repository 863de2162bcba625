"""The loss of IIC on class probabilities of the papers' sizes."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import fastseg

from ..memory import peak_of
from ..registry import TOLERANCE, Aim, Problem, Setup, Variant, Work, case, require, require_close

SHAPES = (  # B, K, side, T
    (4, 3, 64, 5),
    (16, 15, 128, 10),
    (8, 24, 200, 10),
    (8, 36, 200, 5),
    (8, 45, 128, 10),
)
GPU_SHAPES = (
    (60, 24, 200, 10),
    (75, 24, 200, 10),
    (60, 36, 200, 5),
    (120, 15, 128, 10),
    (60, 45, 128, 10),
)
QUICK_SHAPES = ((2, 4, 32, 3),)
# Of displaced_joint alone, where one algorithm overtakes the other.
PLAN_SHAPES = tuple(
    (batch, k, side, t)
    for batch, side, ks in ((1, 32, (3, 15, 45)), (4, 64, (3, 15, 45)), (8, 128, (3, 15)))
    for k in ks
    for t in (0, 1, 2, 3, 5)
)


def fields(batch: int, classes: int, side: int, device: str) -> list[torch.Tensor]:
    """Two views' probabilities, alike but for noise."""
    rng = torch.Generator().manual_seed(0)
    first, noise = (torch.randn((batch, classes, side, side), generator=rng) for _ in range(2))
    return [x.softmax(1).to(device) for x in (2 * first, 2 * first + noise)]


def both_ways(function: Callable, p: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Value and gradients."""
    p, q = p.detach().requires_grad_(), q.detach().requires_grad_()
    value = function(p, q)
    return value.detach(), *torch.autograd.grad(value.sum(), (p, q))


def loss(radius: int, per_displacement: bool, backend: str, algorithm: str = "auto") -> Callable:
    return partial(
        fastseg.iic_loss,
        radius=radius,
        per_displacement=per_displacement,
        algorithm=algorithm,
        backend=backend,
    )


def prepare(make: Callable, batch: int, classes: int, side: int, *arguments: Any) -> Callable:
    """For `peak_of`: the fields are there, and what runs once has run."""
    function = make(*arguments)
    both_ways(function, *fields(1, 2, 16, "cpu"))
    return partial(both_ways, function, *fields(batch, classes, side, "cpu"))


def peer_loss(radius: int, per_displacement: bool) -> Callable:
    from ..peers import joint as peers

    return partial(peers.conv2d_loss, radius=radius, per_displacement=per_displacement)


def loss_problem(setup: Setup, shape: tuple, per_displacement: bool, goal: float) -> Problem:
    batch, classes, side, radius = shape
    p, q = fields(batch, classes, side, setup.device)
    # Once over each displacement or the sum of all; each gradient as much again. Both fields are
    # read for the loss and for the gradients, of which there are two.
    steps = (2 * radius + 1) ** 2 if per_displacement else 1
    work = Work(1, 6 * steps * classes * p.numel(), 6 * p.nbytes)
    aims: tuple[Aim | None, Aim | None] = None, None
    if shape == GPU_SHAPES[0]:
        aims = (Aim("ms", 3), Aim("ratio", 20)) if per_displacement else (Aim("copy", 0.6), None)

    def variant(
        name: str, goal: tuple | None, aim: Aim | None, make: Callable, *arguments: Any
    ) -> Variant:
        memory = partial(peak_of, partial(prepare, make, batch, classes, side, *arguments))
        run = partial(both_ways, make(*arguments), p, q)
        return Variant(name, run, lambda _: work, goal, None if setup.gpu else memory, aim)

    def gate(results: dict[str, Any]) -> None:
        exact = both_ways(loss(radius, per_displacement, "auto"), p.double(), q.double())
        require_close({setup.backend: results[setup.backend]}, exact, 1e-3)
        # The peer loses digits where entropies nearly cancel: up to 2.4 % of the loss of a sum.
        require_close(results, exact, 5e-2)
        error = abs(results[setup.backend][0].item() / exact[0].item() - 1)
        require(error <= 1e-5, f"{setup.backend}: relative error of the loss {error:.1e}")

    return Problem(
        f"{batch}×{classes}×{side}×{side}, T={radius}, forward and backward",
        "call",
        [
            variant(setup.backend, None, aims[0], loss, radius, per_displacement, setup.backend),
            variant("conv2d", ("≥", goal), aims[1], peer_loss, radius, per_displacement),
        ],
        gate,
    )


def losses(setup: Setup, per_displacement: bool, goal: float) -> Iterator[Problem]:
    for shape in QUICK_SHAPES if setup.quick else GPU_SHAPES if setup.gpu else SHAPES:
        yield loss_problem(setup, shape, per_displacement, 1 if shape == SHAPES[0] else goal)


@case("iic_loss", "cpu", "gpu", operator="displaced_joint")
def iic_loss(setup: Setup) -> Iterator[Problem]:
    """The loss of each displacement and its gradients, against the published program's joint."""
    yield from losses(setup, True, 8)


@case("iic_loss_summed", "cpu", "gpu", operator="joint_sum")
def iic_loss_summed(setup: Setup) -> Iterator[Problem]:
    """The loss of the sum over displacements, against the sum of that joint."""
    yield from losses(setup, False, 50)


def the_same(work: Work, _: Any) -> Work:
    return work


@case("joint_plan", "cpu", "gpu", operator="displaced_joint")
def joint_plan(setup: Setup) -> Iterator[Problem]:
    """Both algorithms of displaced_joint; the first named is the one that the plan takes."""
    for batch, classes, side, radius in QUICK_SHAPES if setup.quick else PLAN_SHAPES:
        p, q = fields(batch, classes, side, setup.device)
        cost = fastseg.joint_plan(p, q, radius).cost

        def run(algorithm: str, p=p, q=q, radius=radius) -> tuple[torch.Tensor, ...]:
            joint = partial(
                fastseg.displaced_joint, radius=radius, algorithm=algorithm, backend=setup.backend
            )
            return both_ways(joint, p, q)

        def gate(results: dict[str, Any]) -> None:
            require_close(results, next(iter(results.values())), TOLERANCE[torch.float32])

        work = Work(1, 6 * (2 * radius + 1) ** 2 * classes * p.numel())
        ways = [
            Variant(name, partial(run, name), partial(the_same, work))
            for name in sorted(cost, key=cost.__getitem__)
        ]
        predicted = max(cost.values()) / min(cost.values())
        shape = f"{batch}×{classes}×{side}×{side}, T={radius}, predicted ratio {predicted:.2g}"
        yield Problem(shape, "call", ways, gate)
