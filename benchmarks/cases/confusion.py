"""Counting pairs of labels."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import fastseg

from ..registry import Problem, Setup, Variant, Work, case, require

PIXELS, GPU_PIXELS, QUICK_PIXELS = 5_000_000, 200_000_000, 50_000
SIZES = (6, 27)  # K = C
RUN = 40  # pixels of one label in a row


def labels(pixels: int, count: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    """Runs of one label each."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, count, (pixels // RUN,), generator=rng).repeat_interleave(RUN).to(dtype)


def ours(
    pred: torch.Tensor, target: torch.Tensor, clusters: int, classes: int, backend: str
) -> torch.Tensor:
    metrics = fastseg.SegmentationMetrics(clusters, classes, backend=backend)
    metrics.update(pred, target)
    return metrics.counts


@case("confusion", "cpu", "gpu", operator="confusion")
def confusion(setup: Setup) -> Iterator[Problem]:
    """`SegmentationMetrics.update` against `torch.bincount`, which takes no ignored pixels."""
    from ..peers import confusion as peers

    pixels = QUICK_PIXELS if setup.quick else GPU_PIXELS if setup.gpu else PIXELS
    for count in SIZES:
        for dtype in (torch.int64, torch.int32, torch.uint8):
            pred, target = (labels(pixels, count, seed, dtype).to(setup.device) for seed in (0, 1))
            work = Work(pixels / 1e6, bytes=pred.nbytes + target.nbytes)

            def variant(
                name: str,
                run: Callable,
                goal: tuple[str, float] | None = None,
                sizes: tuple = (pred, target, count, count),
                work: Work = work,
            ) -> Variant:
                # A GPU's bincount waits for the largest.
                graph = not name.startswith("torch")
                return Variant(name, partial(run, *sizes), lambda _: work, goal, graph=graph)

            def gate(results: dict[str, Any]) -> None:
                expected = results["torch bincount"]
                for name, result in results.items():
                    require(torch.equal(result, expected), f"{name} differs from bincount")

            ways = [
                variant(setup.backend, partial(ours, backend=setup.backend)),
                variant("torch bincount", peers.bincount, ("≥", 5)),
                variant("torch bincount, masked", peers.masked_bincount),
            ]
            kind = str(dtype).removeprefix("torch.")
            yield Problem(f"{pixels / 1e6:g} M pixels {kind}, K={count}", "M pixels", ways, gate)
