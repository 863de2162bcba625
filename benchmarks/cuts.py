"""`python -m benchmarks.cuts`: what the loss of CIRS comes to for cuts that stay as they are.

S is left out: g alone learns, from the cut that each line names. Printed is the share of the
variance of its features that lies within segments, on pictures that it has not seen: 0 where the
loss has its least value, 1 where it has its most.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import one_hot

from fastseg.data import open_dataset
from fastseg.methods.cirs import (
    CIRS,
    CIRSConfig,
    between_classes,
    class_means,
    describe,
    within_classes,
)

from . import machine
from .report import write_csv

Cut = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

SIDE, SEGMENTS = 64, 4
RIGHT = torch.arange(SIDE) >= SIDE // 2
# Of pictures (B,C,H,W) and their truth (B,H,W), segments (B,H,W).
CUTS: dict[str, Cut] = {
    "the truth": lambda images, truth: truth,
    "all one segment, the others empty": lambda images, truth: torch.zeros_like(truth),
    "four quarters": lambda images, truth: (RIGHT + 2 * RIGHT[:, None]).expand_as(truth),
    "the sky in halves, apple, the others": lambda images, truth: torch.where(
        truth == 0, RIGHT.long(), (truth + 1).clamp(max=3)
    ),
    "red, green, blue, whichever is most": lambda images, truth: images.argmax(1),
    "pixels drawn by lot": lambda images, truth: torch.randint_like(truth, SEGMENTS),
}


def fruits(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (B,C,H,W) in 0 … 1 and their truth (B,H,W)."""
    found = open_dataset("fruits", split)
    samples = [found[i] for i in range(count)]
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    truth = torch.from_numpy(np.stack([np.asarray(sample.labels) for sample in samples]))
    return images.movedim(-1, 1) / 255, truth.long()


def seen(images: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """(B,K,C,H,W): the pixels of each segment, the others grey."""
    masks = one_hot(segments, SEGMENTS).movedim(-1, 1)
    return masks[:, :, None] * (images - 0.5)[:, None]


def within(features: torch.Tensor) -> float:
    """Of features (B,K,D) the share of the variance that lies within segments."""
    means = class_means(features)
    inside = within_classes(features, means) / len(features)
    return float(inside / (inside + between_classes(means) / len(means)))


def learned(cut: Cut, numbered: bool, at: Sequence[int], pictures: int) -> Iterator[float]:
    """`within` of pictures of the split test, after g has learned for `at` steps from train's."""
    torch.manual_seed(0)
    g = CIRS(CIRSConfig(width=1), 3, SEGMENTS).g
    optimizer = torch.optim.Adam(g.parameters(), CIRSConfig.lr, fused=True)
    images, truth = fruits("train", pictures)
    segments = cut(images, truth)
    others, truth = fruits("test", pictures // 4)
    unseen = seen(others, cut(others, truth))
    for step in range(max(at)):
        chosen = torch.randint(len(images), (CIRSConfig.batch_size,))
        features = describe(g.train(), seen(images[chosen], segments[chosen]), numbered)
        means = class_means(features)
        loss = within_classes(features, means) - between_classes(means)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step + 1 in at:
            with torch.no_grad():
                yield within(describe(g.eval(), unseen, numbered))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.cuts", description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=(10, 50, 500), metavar="N")
    parser.add_argument("--pictures", type=int, default=2000, metavar="N")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write cuts.csv there")
    options = parser.parse_args(arguments)
    print(f"{'cut':<40}{'number':>10}" + "".join(f"{n:>6} steps" for n in options.steps))
    lines = []
    for name, numbered in product(CUTS, (True, False)):
        shares = list(learned(CUTS[name], numbered, options.steps, options.pictures))
        given = "given" if numbered else "withheld"
        print(f"{name:<40}{given:>10}" + "".join(f"{s:12.4f}" for s in shares), flush=True)
        lines += [
            {"cut": name, "number": given, "steps": n, "within": share}
            for n, share in zip(options.steps, shares, strict=True)
        ]
    if options.out:
        about = machine.describe("cpu")
        write_csv([{**line, **about} for line in lines], [*lines[0], *about],
                  options.out / "cuts.csv")  # fmt: skip


if __name__ == "__main__":
    main()
