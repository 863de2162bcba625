"""A step of training: what the operators are of it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import fastseg
from fastseg.data.base import Batch
from fastseg.methods import IIC, InfoSeg, InMARS, Method

from ..images import photographs
from ..memory import peak_of
from ..registry import Problem, Setup, Variant, Work, case, require

SIZE = 4, 128, 15  # images, side, classes: COCO-Stuff
QUICK_SIZE = 2, 64, 4
# The width of the hourglass at a quarter of the resolution, 256 being the published one; the
# superpixels, the paper's 2·N_gt and the N_gt² that it tries, too; the head; the goal against the
# reference. Where the backbone takes nearly all, as there, no operator can halve the step.
SETTINGS: tuple[tuple[int, Any, Any, float], ...] = (
    (64, "2n", "max", 1.0),
    (64, "2n", "spp", 1.5),
    (64, "nn", "spp", 1.5),
    (64, "nn", "resize", 1.0),
    (256, "nn", "spp", 1.0),
)
QUICK_SETTINGS = ((8, "nn", "resize", 1.0),)
# InfoSeg with the published network: images, side and classes of COCO-Stuff-3, of COCO-Stuff, of
# Potsdam, where a batch of 64 would take a minute.
INFOSEG_SIZES = ((8, 128, 3), (8, 128, 15), (4, 200, 6))
QUICK_INFOSEG = 2, 32, 3


def batch(method: Method, setup: Setup) -> Batch:
    count, side, _ = QUICK_SIZE if setup.quick else SIZE
    images = photographs(count, side)
    superpixels = tuple(fastseg.slic(images, **way) for way in method.superpixels[:1])
    valid = torch.ones(count, side, side, dtype=torch.bool)
    keys = tuple(map(str, range(count)))
    return Batch(images / 255, valid, superpixels, torch.arange(count), keys).to(setup.device)


def step(method: Method, optimizer: torch.optim.Optimizer, data: Batch) -> torch.Tensor:
    """Loss, gradient and update, as the loop does them."""
    loss = method.loss(data, 0.5)["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def backbone_step(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: list[torch.Tensor],
    probes: int,
) -> torch.Tensor:
    """What a step asks of the backbone alone: a pass and its gradient for each input, and `probes`
    passes with the gradient of the input."""
    loss = sum(network(x).sum() for x in inputs)
    for _ in range(probes):
        x = inputs[0].detach().requires_grad_()
        torch.autograd.grad(network(x).sum(), x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def one(_: Any) -> Work:
    return Work(1)


def problem(
    setup: Setup, shape: str, make: Callable[[str], Method], alone: tuple, goal: float
) -> Problem:
    """Steps of `make(backend)`; `alone`: the backbone, its inputs and probes."""
    runs: list[tuple[str, Callable, tuple[str, float] | None]] = []
    for backend, most in ((setup.backend, None), ("reference", ("≥", goal))):
        method = make(backend).to(setup.device)
        runs.append(
            (backend, partial(step, method, method.optimizer(), batch(method, setup)), most)
        )
    network, inputs, probes = alone
    optimizer = torch.optim.Adam(network.parameters(), 1e-5)
    run = partial(backbone_step, network, optimizer, inputs, probes)
    runs.append(("backbone alone", run, ("≥", 0.85)))

    def gate(results: dict[str, Any]) -> None:
        ours, reference = (results[name].item() for name in (setup.backend, "reference"))
        error = abs(ours - reference) / max(abs(reference), 1e-3)
        require(error <= 1e-3, f"the loss is {ours:.6g}, the reference's {reference:.6g}")

    return Problem(shape, "step", [Variant(name, run, one, most) for name, run, most in runs], gate)


@case("inmars_step", "cpu", "gpu")
def inmars_step(setup: Setup) -> Iterator[Problem]:
    """A step of InMARS, the same with the reference's operators, and the backbone's part of it."""
    count, side, classes = QUICK_SIZE if setup.quick else SIZE
    for width, segments, head, goal in QUICK_SETTINGS if setup.quick else SETTINGS:

        def make(
            backend: str, width: int = width, segments: Any = segments, head: Any = head
        ) -> InMARS:
            torch.manual_seed(0)
            way = {"segments": segments, "head": head, "backend": backend}
            return InMARS(InMARS.Config(width=width, stride=4, **way), 3, classes)

        method = make("auto").to(setup.device)
        images = batch(method, setup).images
        alone = method.network.backbone, [images] * 3, 1  # plain, noisy, transformed; R_adv's trial
        number = method.superpixels[0]["n_segments"]
        shape = f"{count}×3×{side}×{side}, {classes} classes, {number} superpixels, {head}"
        yield problem(setup, f"{shape}, hourglass {width} wide", make, alone, goal)


@case("iic_step", "cpu", "gpu")
def iic_step(setup: Setup) -> Iterator[Problem]:
    """A step of IIC on its head B, likewise."""
    count, side, classes = QUICK_SIZE if setup.quick else SIZE

    def make(backend: str) -> IIC:
        torch.manual_seed(0)
        width, radius = (4, 3) if setup.quick else (64, 10)
        return IIC(IIC.Config(epochs=2, width=width, radius=radius, backend=backend), 3, classes)

    method = make("auto").to(setup.device)
    images = batch(method, setup).images
    images = torch.cat((images, images[:, :2]), 1)  # with the derivatives
    radius = method.config.radius
    shape = f"{count}×3×{side}×{side}, {classes} classes, T={radius}"
    yield problem(setup, shape, make, (method.network, [images] * 2, 0), 1.0)


def infoseg_call(way: str, device: str, size: tuple[int, int, int], features: int) -> Callable:
    """A step of InfoSeg, "fastseg" or "eager": → its loss and the norm of its gradient."""
    from ..peers.infoseg import Plain

    count, side, classes = size
    torch.manual_seed(0)
    method = InfoSeg(InfoSeg.Config(features=features), 3, classes)
    images, valid = photographs(count, side) / 255, torch.ones(count, side, side, dtype=torch.bool)
    data = Batch(images, valid, (), torch.arange(count), tuple(map(str, range(count)))).to(device)
    model = (method if way == "fastseg" else Plain(method)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), method.config.lr)

    def step() -> tuple[float, float]:
        torch.manual_seed(0)
        loss = model.loss(data, 0.5)["loss"] if model is method else model.loss(data)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
        optimizer.step()
        return loss.item(), norm.item()

    return step


def warm_infoseg_call(*arguments: Any) -> Callable:
    """For `peak_of`: the optimiser has its state, what is freed was small."""
    step = infoseg_call(*arguments)
    step()
    return step


@case("infoseg_step", "cpu", "gpu")
def infoseg_step(setup: Setup) -> Iterator[Problem]:
    """A step of InfoSeg against its features and assignments stored, autograd and Adam for both."""
    for size in (QUICK_INFOSEG,) if setup.quick else INFOSEG_SIZES:
        features = 32 if setup.quick else 1024
        count, side, classes = size
        variants = []
        for way in ("fastseg", "eager"):
            arguments = way, setup.device, size, features
            memory = partial(peak_of, partial(warm_infoseg_call, *arguments))
            measured = None if setup.quick or setup.device != "cpu" else memory
            goal = ("≥", 1.3) if way == "eager" else None
            variants.append(Variant(way, infoseg_call(*arguments), one, goal, measured))

        def gate(results: dict[str, Any]) -> None:
            for ours, plain in zip(results["fastseg"], results["eager"], strict=True):
                require(abs(ours - plain) <= 1e-3 * abs(plain), f"{ours:.6g} is not {plain:.6g}")

        shape = f"{count}×3×{side}×{side}, {classes} classes, P={features}"
        yield Problem(shape, "step", variants, gate)
