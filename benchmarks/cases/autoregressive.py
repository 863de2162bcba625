"""A training step of AC: two views of one batch through the network, its loss, and gradients."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import fastseg

from ..memory import peak_of
from ..registry import Problem, Setup, Variant, Work, case, require

# batch, side of the picture, widths of the blocks, attention. The paper's model F2 on its pictures
# of 200×200 RGBIR, 6 classes, displacements of one pixel.
EVEN, DOUBLING = 5 * (128,), (128, 256, 512, 512, 512)
SHAPES = ((2, 200, EVEN, True), (2, 200, EVEN, False), (2, 200, DOUBLING, True))
GPU_SHAPES = ((30, 200, EVEN, True), (30, 200, EVEN, False), (16, 200, DOUBLING, True))
QUICK_SHAPES = ((1, 32, 5 * (16,), True),)
VIEWS, CLASSES, CHANNELS = (2, 7), 6, 4


def call(way: str, shape: tuple, device: str) -> Callable[[], Any]:
    """One step: the loss, and the gradient of every weight."""
    from ..peers import autoregressive as peer

    batch, side, widths, attention = shape
    dtype = torch.float64 if way == "exact" else torch.float32
    torch.manual_seed(0)
    net = fastseg.nn.AutoregressiveNet(CLASSES, CHANNELS, widths=widths, attention=attention)
    net = net.to(device, dtype)
    with torch.no_grad():
        net.decoder.weight *= 30  # a fresh network's classes hardly differ, its loss is rounding
    x = torch.rand((batch, CHANNELS, side, side), generator=torch.Generator().manual_seed(0))
    x = x.to(device, dtype)
    weights = list(net.parameters())
    kept = peer.masks(-(-side // 4), -(-side // 4), VIEWS, device, dtype)

    def step() -> list[torch.Tensor]:
        if way == "fastseg":
            p, q = net(x, VIEWS)
        else:
            p, q = (peer.forward(net, x, view, kept) for view in VIEWS)
        loss = fastseg.iic_loss(p.softmax(1), q.softmax(1), 1)
        return [loss.detach(), *torch.autograd.grad(loss, weights)]

    return step


def warm(way: str, shape: tuple) -> Callable[[], Any]:
    """For `peak_of`: what stays loaded is, what is freed was small."""
    call(way, QUICK_SHAPES[0], "cpu")()
    return call(way, shape, "cpu")


def same(work: Work, _: Any) -> Work:
    return work


def products(widths: tuple[int, ...], attention: bool, side: int) -> int:
    """Multiply-adds of g_ar for one picture, forward."""
    pixels, total, before = (side // 4) ** 2, 0, 64
    for width in widths:
        own = before * width if before != width else 0
        total += pixels * (8 * before * width + 8 * width * width + own)
        before = width
    if attention:
        d = widths[0]
        total += pixels * (pixels + 1) * d + 6 * pixels * d * d
    return total


@case("autoregressive_step", "cpu", "gpu")
def autoregressive_step(setup: Setup) -> Iterator[Problem]:
    """AC's training step but for the optimiser, against padding, masked weights, stored masks."""
    for shape in QUICK_SHAPES if setup.quick else GPU_SHAPES if setup.gpu else SHAPES:
        batch, side, widths, attention = shape
        work = Work(1, flops=3 * 2 * 2 * batch * products(widths, attention, side))

        def gate(results: dict[str, Any], shape=shape) -> None:
            exact = call("exact", shape, setup.device)()
            # A ReLU whose argument rounds to the other side of 0 costs gradients up to 1e-3.
            for name, result in results.items():
                for part, expected in zip(result, exact, strict=True):
                    error = ((part - expected).norm() / expected.norm().clamp(min=1e-12)).item()
                    require(error <= 4e-3, f"{name}: relative error {error:.2e}, need 4e-3")

        ways = []
        for way, goal in (("fastseg", None), ("straightforward", ("≥", 1.3))):
            memory = partial(peak_of, partial(warm, way, shape))
            measured = setup.device == "cpu" and not setup.quick
            run = call(way, shape, setup.device)
            ways.append(Variant(way, run, partial(same, work), goal, memory if measured else None))
        blocks = "-".join(map(str, widths))
        seen = "with attention" if attention else "no attention"
        yield Problem(f"B={batch}, {side}×{side}, {blocks}, {seen}", "step", ways, gate)
