"""SLIC from small images in a batch to one large one."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

import fastseg

from ..images import photographs
from ..labels import differing
from ..registry import Aim, Problem, Setup, Variant, Work, case, require

# (images, side, superpixels)
SIZES = ((64, 128, 100), (1, 128, 100), (8, 512, 400), (1, 512, 400), (1, 4096, 4000))
GPU_SIZES = ((1024, 128, 100), (64, 128, 100), (1, 128, 100), (64, 512, 400), (1, 4096, 4000))
QUICK_SIZES = ((4, 128, 100),)
# Rounding in the conversion to Lab may decide a tie. Pixels in another region are counted and not
# labels, because a region more or less shifts the labels of all that follow.
MOST_MOVED = 1e-4


def work_of(batch: int, side: int) -> Work:
    """10 iterations of 16 centres a pixel, a distance in 5 dimensions each; one pass over memory.

    A kernel that keeps a tile in cache for its candidates reads the image once an iteration.
    """
    pixels = batch * side * side
    return Work(batch, flops=10 * pixels * 16 * 16, bytes=10 * pixels * (3 + 2) * 4)


@case("slic", "cpu", "gpu", operator="slic")
def slic(setup: Setup) -> Iterator[Problem]:
    """Superpixels from float32 RGB with the defaults of scikit-image."""
    from ..peers import slic as peers

    for batch, side, count in QUICK_SIZES if setup.quick else GPU_SIZES if setup.gpu else SIZES:
        images = photographs(batch, side).float() / 255

        def gate(results: dict[str, Any]) -> None:
            names = setup.backend, "scikit-image"
            ours, theirs = (results[name].cpu().numpy() for name in names)
            moved = max(differing(*pair)[1] for pair in zip(ours, theirs, strict=True))
            require(moved <= MOST_MOVED, f"{moved:.4%} of an image lie in another region")

        def work(_: torch.Tensor, of=(batch, side)) -> Work:
            return work_of(*of)

        # The peers stay on the CPU.
        ours = partial(fastseg.slic, images.to(setup.device), count, backend=setup.backend)
        aim = Aim("per_second", 20_000) if (batch, side) == GPU_SIZES[0][:2] else None
        ways = [Variant(setup.backend, ours, work, aim=aim)]
        theirs: list[tuple[str, Any, float]] = [("scikit-image", peers.scikit_image, 10)]
        if peers.HAS_OPENCV:
            theirs.append(("OpenCV", peers.opencv, 6))
        for name, run, goal in theirs:
            ways.append(Variant(name, partial(run, images, count), work, ("≥", goal), graph=False))
        yield Problem(f"{batch}×3×{side}×{side} float32, {count}", "image", ways, gate)
