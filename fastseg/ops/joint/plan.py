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
# Parts of an axis to choose among.
MOST_PARTS = 8


@dataclass(frozen=True)
class JointPlan:
    """What the model of costs says of `displaced_joint`, forward and backward."""

    algorithm: str  #: the cheapest
    cost: dict[str, float]  #: of each algorithm, in units of one multiplication and addition


# What a step of each kind costs on a CPU against a multiplication and addition of the direct sum:
# estimates, which `python -m benchmarks cpu --only joint_plan` holds against the clock.
PRODUCT = 1.0  # of spectra, real ones
LINE = 1.0  # of pixels with the Fourier matrix along x
TURN = 4.0  # log₂(n) of them for each value transformed along y
SLICE = 1.0  # of spectra of joints with slices of the Fourier matrices


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


def spectral_cost(batch: int, classes: int, others: int, height: int, cut: Tiling) -> float:
    """Of joints by spectra of tiles, forward and backward."""
    planes, pairs, wide = batch * (classes + others), classes * others, cut.blocks * BLOCK
    products = 4 * pairs * batch * cut.tiles * cut.frequencies
    lines = planes * height * cut.columns.count * cut.columns.size * 2 * wide
    turns = planes * cut.tiles * cut.frequencies * cut.rows.size.bit_length()
    slices = pairs * cut.frequencies * 4 * (2 * cut.radius + 1)
    return 3 * (products * PRODUCT + lines * LINE + turns * TURN + slices * SLICE)


@lru_cache(256)
def _tiling(batch: int, classes: int, others: int, height: int, width: int, radius: int) -> Tiling:
    parts = range(1, MOST_PARTS + 1)
    rows = {axis(height, i, radius, True) for i in parts}
    columns = {axis(width, i, radius, False) for i in parts}
    cuts = [Tiling(y, x, radius) for y in rows for x in columns]
    return min(cuts, key=lambda cut: (spectral_cost(batch, classes, others, height, cut), cut.tiles))


def tiling(shape: Sequence[int], others: int, radius: int) -> Tiling:
    """The cheapest for fields (B,K,H,W) and (B,L,H,W), whichever of K and L is the greater."""
    batch, classes, height, width = map(int, shape)
    return _tiling(batch, max(classes, others), min(classes, others), height, width, radius)


def joint_plan(p: torch.Tensor, q: torch.Tensor, radius: int) -> JointPlan:
    """What `displaced_joint(p, q, radius)` would take for each algorithm, and which it takes.

    direct: (2T+1)²·K·L·B·H·W steps, thrice. fft: thrice products of the spectra of tiles, as many
    as K·L times the values of B padded planes; transforms of B·(K+L) of these along x and along y;
    and products of the spectra of K·L joints with slices of the Fourier matrices.

    Args:
        p, q: (B,K,H,W) and (B,L,H,W); only their shapes count.
        radius: T, pixels.

    Returns:
        `JointPlan`.
    """
    return cheapest(p.shape, q.shape[1], radius)


def cheapest(shape: Sequence[int], others: int, radius: int) -> JointPlan:
    """The plan for fields (B,K,H,W) and (B,L,H,W); the same for K and L in each other's place."""
    batch, classes, height, width = map(int, shape)
    direct = 3 * (2 * radius + 1) ** 2 * classes * others * batch * height * width
    spectral = spectral_cost(batch, classes, others, height, tiling(shape, others, radius))
    cost = {"direct": float(direct), "fft": float(spectral)}
    return JointPlan(min(cost, key=cost.__getitem__), cost)
