"""A step of training: what the operators are of it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import fastseg
from fastseg.data.base import Batch
from fastseg.methods import AC, IIC, InfoSeg, InMARS, Method

from ..images import photographs
from ..memory import peak_of
from ..registry import Problem, Setup, Variant, Work, case, require

SIZE, GPU_SIZE = (4, 128, 15), (32, 128, 15)  # images, side, classes: COCO-Stuff
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
GPU_INFOSEG_SIZES = ((64, 128, 15), (64, 200, 6))
QUICK_INFOSEG = 2, 32, 3
# AC: images, side and clusters of COCO-Stuff, of Potsdam-3, of Potsdam; channels; T; the network;
# the goal. Where widths double, as by default, convolutions take nearly all.
EVEN: dict[str, Any] = {"widths": 5 * (128,)}
AC_SETTINGS: tuple[tuple[Any, int, int, dict[str, Any], float], ...] = (
    ((4, 128, 15), 3, 10, EVEN, 3.0),
    ((2, 200, 3), 4, 10, EVEN, 3.0),
    ((2, 200, 6), 4, 5, {**EVEN, "attention": True}, 2.5),
    ((4, 128, 15), 3, 10, {"widths": (128, 256, 512, 512, 512)}, 3.0),
)
GPU_AC: tuple[tuple[Any, int, int, dict[str, Any], float], ...] = (
    ((30, 200, 6), 4, 5, {**EVEN, "attention": True}, 2.5),
    ((60, 128, 15), 3, 10, EVEN, 3.0),
    ((16, 128, 15), 3, 10, {"widths": (128, 256, 512, 512, 512)}, 1.0),
)
QUICK_AC: tuple[tuple[Any, int, int, dict[str, Any], float], ...] = (
    ((2, 32, 4), 3, 3, {"widths": 5 * (8,), "attention": True}, 3.0),
)


def size_of(setup: Setup) -> tuple[int, int, int]:
    return QUICK_SIZE if setup.quick else GPU_SIZE if setup.gpu else SIZE


def batch(method: Method, setup: Setup) -> Batch:
    count, side, _ = size_of(setup)
    images = photographs(count, side)
    shown = images.to(setup.device)
    superpixels = tuple(fastseg.slic(shown, **way).cpu() for way in method.superpixels[:1])
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

    variants = [Variant(name, run, one, most, graph=False) for name, run, most in runs]
    return Problem(shape, "step", variants, gate)


@case("inmars_step", "cpu", "gpu")
def inmars_step(setup: Setup) -> Iterator[Problem]:
    """A step of InMARS, the same with the reference's operators, and the backbone's part of it."""
    count, side, classes = size_of(setup)
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
    count, side, classes = size_of(setup)

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


def plain_batch(size: tuple[int, int, int], channels: int = 3) -> Batch:
    count, side, _ = size
    images = photographs(count, side) / 255
    images = torch.cat((images, images[:, : channels - 3]), 1)  # with infrared
    valid = torch.ones(count, side, side, dtype=torch.bool)
    return Batch(images, valid, (), torch.arange(count), tuple(map(str, range(count))))


def infoseg_models(size: tuple[int, int, int], features: int) -> tuple[Method, Any, Batch]:
    from ..peers.infoseg import Plain

    torch.manual_seed(0)
    method = InfoSeg(InfoSeg.Config(features=features), 3, size[2])
    return method, Plain(method), plain_batch(size)


def ac_models(
    size: tuple[int, int, int], channels: int, radius: int, way: dict[str, Any]
) -> tuple[Method, Any, Batch]:
    from ..peers.ac import PlainAC

    torch.manual_seed(0)
    method = AC(AC.Config(radius=radius, sampling="hard", **way), channels, size[2])
    return method, PlainAC(method), plain_batch(size, channels)


def trained(way: str, device: str, models: Callable[[], tuple[Method, Any, Batch]]) -> Callable:
    """A step, "fastseg" or "eager": → its loss and the norm of its gradient."""
    method, plain, data = models()
    data = data.to(device)
    model = (method if way == "fastseg" else plain).to(device)
    optimizer = torch.optim.Adam(model.parameters(), method.config.lr)

    def step() -> tuple[float, float]:
        torch.manual_seed(0)
        loss = model.loss(data, 0.5)["loss"]
        optimizer.zero_grad()
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        optimizer.step()
        return loss.item(), norm.item()

    return step


def warm(*arguments: Any) -> Callable:
    """For `peak_of`: the optimiser has its state, what is freed was small."""
    step = trained(*arguments)
    step()
    return step


def against_eager(setup: Setup, shape: str, models: Callable, goal: float) -> Problem:
    """A step against one as a user would write it, autograd and Adam for both."""
    variants = []
    for way in ("fastseg", "eager"):
        arguments = way, setup.device, models
        memory = partial(peak_of, partial(warm, *arguments))
        measured = None if setup.quick or setup.gpu else memory
        least = ("≥", goal) if way == "eager" else None
        variants.append(Variant(way, trained(*arguments), one, least, measured, graph=False))

    def gate(results: dict[str, Any]) -> None:
        for ours, plain in zip(results["fastseg"], results["eager"], strict=True):
            require(abs(ours - plain) <= 1e-3 * abs(plain), f"{ours:.6g} is not {plain:.6g}")

    return Problem(shape, "step", variants, gate)


@case("infoseg_step", "cpu", "gpu")
def infoseg_step(setup: Setup) -> Iterator[Problem]:
    """A step of InfoSeg against its features and assignments stored, autograd and Adam for both."""
    sizes = GPU_INFOSEG_SIZES if setup.gpu else INFOSEG_SIZES
    for size in (QUICK_INFOSEG,) if setup.quick else sizes:
        features = 32 if setup.quick else 1024
        count, side, classes = size
        shape = f"{count}×3×{side}×{side}, {classes} classes, P={features}"
        yield against_eager(setup, shape, partial(infoseg_models, size, features), 1.3)


@case("ac_step", "cpu", "gpu")
def ac_step(setup: Setup) -> Iterator[Problem]:
    """A step of AC against padding, masked weights, a stored mask and the joint by convolution."""
    settings = QUICK_AC if setup.quick else GPU_AC if setup.gpu else AC_SETTINGS
    for size, channels, radius, way, goal in settings:
        count, side, clusters = size
        shape = f"{count}×{channels}×{side}×{side}, {clusters} clusters, T={radius}, "
        shape += "-".join(map(str, way["widths"]))
        shape += ", attention" if way.get("attention") else ""
        models = partial(ac_models, size, channels, radius, way)
        yield against_eager(setup, shape, models, goal)
