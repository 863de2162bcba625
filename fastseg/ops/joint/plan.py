"""Which algorithm computes a displaced joint: the cheapest by a model of their costs."""

from dataclasses import dataclass

import torch

from ._fft import spectrum_size

__all__ = ["ALGORITHMS", "JointPlan", "joint_plan"]

ALGORITHMS = ("direct", "fft")


@dataclass(frozen=True)
class JointPlan:
    """What the model of costs says of `displaced_joint`, forward and backward."""

    algorithm: str  #: the cheapest
    cost: dict[str, float]  #: of each algorithm, in units of one multiplication and addition


# What a step of each kind costs on a CPU against a multiplication and addition of the direct sum:
# estimates, which `python -m benchmarks cpu --only joint_plan` holds against the clock.
TRANSFORM = 12.0  # of log₂(n·m) steps a value
PRODUCT = 2.0  # real ones, of spectra
SLICE = 1.0  # of the products with Fourier matrices


def joint_plan(p: torch.Tensor, q: torch.Tensor, radius: int) -> JointPlan:
    """What `displaced_joint(p, q, radius)` would take for each algorithm, and which it takes.

    direct: (2T+1)²·K·L·B·H·W steps, thrice. fft: transforms of 2·B·(K+L) padded planes, thrice as
    many products of spectra as K·L·B planes have values, and products with slices of the Fourier
    matrices for K·L planes, thrice.

    Args:
        p, q: (B,K,H,W) and (B,L,H,W); only their shapes count.
        radius: T, pixels.

    Returns:
        `JointPlan`.
    """
    batch, classes, height, width = p.shape
    others, side = q.shape[1], 2 * radius + 1
    n, m = spectrum_size(p.shape, radius)
    direct = 3 * side**2 * classes * others * batch * height * width
    transforms = 2 * batch * (classes + others) * n * m * (n * m).bit_length() / 2 * TRANSFORM
    products = 3 * batch * classes * others * 2 * n * m * PRODUCT
    slices = 3 * classes * others * 2 * side * n * m * SLICE
    cost = {"direct": float(direct), "fft": float(transforms + products + slices)}
    return JointPlan(min(cost, key=cost.__getitem__), cost)
