"""Which algorithm computes a displaced joint, and in which tiles: the cheapest by a model of costs.

The model counts steps of each kind and weighs them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

__all__ = ["ALGORITHMS", "Axis", "JointPlan", "Tiling", "fast_size", "joint_plan", "tiling"]

ALGORITHMS = ("direct", "fft")

# Frequencies beside each other in memory, see csrc/spectra.h.
BLOCK = 16
# Numbers of tiles along an axis to choose among.
PARTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)


@dataclass(frozen=True)
class JointPlan:
    """What the model of costs says of `displaced_joint`, forward and backward."""

    algorithm: str  #: the cheapest
    cost: dict[str, float]  #: of each algorithm, in units of one multiplication and addition


# What a step of each kind costs on a CPU against a multiplication and addition of the direct sum:
# fitted to the time of one AMD EPYC core at 125 shapes, at 3 of which the choice lost more than a
# fifth. `python -m benchmarks cpu --only joint_plan` holds them against the clock.
SHIFT = 4.8  # direct: of a value, for each displacement
VALUE = 12.7  # direct: of a value, once
PRODUCT = 1.5  # fft: a real one, of spectra
LINE = 0.9  # fft: of a pixel with the Fourier matrix along x
TURN = 18.0  # fft: log₂(n) of them for each value transformed along y
SLICE = 5.0  # fft: of spectra of joints with slices of the Fourier matrices
START = {"direct": 18e6, "fft": 27e6}  # of calls, whatever the size


@dataclass(frozen=True)
class Axis:
    """`count` tiles of `step` pixels in windows of `size`."""

    count: int
    step: int
    size: int

    def cut(self) -> tuple[int, int, int]:
        return self.count, self.step, self.size


@dataclass(frozen=True)
class Tiling:
    """How planes are cut for displacements up to `radius`."""

    rows: Axis
    columns: Axis
    radius: int

    @property
    def blocks(self) -> int:
        """Of a row of frequencies."""
        return (self.columns.size // 2 + BLOCK) // BLOCK

    @property
    def frequencies(self) -> int:
        """Of a tile, those that fill the last block too."""
        return self.rows.size * self.blocks * BLOCK

    @property
    def tiles(self) -> int:
        return self.rows.count * self.columns.count


def fast_size(least: int) -> int:
    """The next even size without prime factors above 7, which transforms fast."""
    size = least + least % 2
    while True:
        rest = size
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2


def axis(pixels: int, parts: int, radius: int, fast: bool) -> Axis:
    """About as many tiles, of one length; `fast`: windows have no prime factors above 7."""
    step = -(-pixels // parts)
    count = -(-pixels // step)
    least = pixels + radius if count == 1 else step + 2 * radius
    return Axis(count, step, fast_size(least) if fast else least + least % 2)


def direct_cost(shape: Sequence[int], others: int, radius: int) -> float:
    """Of joints by a product for each displacement, forward and backward."""
    batch, classes, height, width = shape
    values = classes + others
    steps = (2 * radius + 1) ** 2 * (classes * others + SHIFT * values) + VALUE * values
    return 3 * batch * height * width * steps + START["direct"]


def spectral_cost(shape: Sequence[int], others: int, cut: Tiling) -> float:
    """Of joints by spectra of tiles, forward and backward."""
    batch, classes, height, width = shape
    planes, pairs, wide = batch * (classes + others), classes * others, cut.blocks * BLOCK
    values = cut.tiles * cut.frequencies
    products = 4 * batch * pairs * values * PRODUCT
    reach = cut.columns.count * min(width, cut.columns.size)
    lines = planes * height * reach * 2 * wide * LINE
    turns = planes * values * cut.rows.size.bit_length() * TURN
    slices = pairs * cut.frequencies * 4 * (2 * cut.radius + 1) * SLICE
    return 3 * (products + lines + turns + slices) + START["fft"]


@lru_cache(256)
def _tiling(shape: tuple[int, ...], others: int, radius: int) -> Tiling:
    rows = {axis(shape[2], i, radius, True) for i in PARTS}
    columns = {axis(shape[3], i, radius, False) for i in PARTS}
    cuts = [Tiling(y, x, radius) for y in rows for x in columns]
    return min(cuts, key=lambda cut: (spectral_cost(shape, others, cut), cut.tiles))


def tiling(shape: Sequence[int], others: int, radius: int) -> Tiling:
    """The cheapest for fields (B,K,H,W) and (B,L,H,W); the same with K and L exchanged."""
    batch, classes, height, width = map(int, shape)
    return _tiling((batch, max(classes, others), height, width), min(classes, others), radius)


def joint_plan(p: torch.Tensor, q: torch.Tensor, radius: int) -> JointPlan:
    """What `displaced_joint(p, q, radius)` would take for each algorithm, and which it takes.

    direct: (2T+1)²·K·L·B·H·W multiplications. fft: products of the spectra of tiles, as many as K·L
    times the values of B padded planes; transforms of B·(K+L) of these along x and along y; and
    products of the spectra of K·L joints with slices of the Fourier matrices. All of it thrice.

    Args:
        p, q: (B,K,H,W) and (B,L,H,W); only their shapes count.
        radius: T, pixels.

    Returns:
        `JointPlan`.
    """
    return cheapest(p.shape, q.shape[1], radius)


def cheapest(shape: Sequence[int], others: int, radius: int) -> JointPlan:
    """The plan for fields (B,K,H,W) and (B,L,H,W); the same with K and L exchanged."""
    cost = {
        "direct": direct_cost(shape, others, radius),
        "fft": spectral_cost(shape, others, tiling(shape, others, radius)),
    }
    return JointPlan(min(cost, key=cost.__getitem__), cost)
