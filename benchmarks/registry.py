"""What a benchmark case is, and all cases by name.

A case is a function from a `Setup` to the problems that it measures:

    @case("iem_iteration", "cpu", "gpu", operator="iem")
    def iem_iteration(setup): yield Problem(...)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fastseg.backends import resolve

__all__ = [
    "CASES",
    "TOLERANCE",
    "Aim",
    "Case",
    "GateError",
    "Problem",
    "Setup",
    "Variant",
    "Work",
    "case",
    "compiled",
    "require",
    "require_close",
]


# Largest relative errors, of a dtype.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


class GateError(AssertionError):
    """What is to be measured is not correct; nothing is reported."""


def require(condition: bool, message: str) -> None:
    """Raise `GateError` with the message unless the condition holds."""
    if not condition:
        raise GateError(message)


def require_close(results: dict[str, Any], exact: Sequence[torch.Tensor], most: float) -> None:
    """Each result, one tensor or the first of several, within a relative error of the exact."""
    for name, result in results.items():
        parts = (result,) if isinstance(result, torch.Tensor) else result
        for part, expected in zip(parts, exact, strict=False):
            error = ((part - expected).norm() / expected.norm()).item()
            require(error <= most, f"{name}: relative error {error:.2e}, need {most:.0e}")


def compiled(function: Callable) -> Callable:
    """By `torch.compile`, at the first call."""
    return torch.compile(function, dynamic=False)


@dataclass(frozen=True)
class Setup:
    """Where and how thoroughly to measure."""

    device: str = "cpu"  #: of PyTorch: "cpu" or "cuda", in tests "meta"
    backend: str = "auto"  #: of fastseg, the one to measure
    quick: bool = False  #: small problems, for CI

    @property
    def gpu(self) -> bool:
        return self.device != "cpu"


@dataclass(frozen=True)
class Work:
    """What one call did, to turn its time into rates."""

    units: float  #: in the problem's unit
    flops: float = 0  #: arithmetic that the definition asks for
    bytes: float = 0  #: least traffic to and from memory
    precision: str = "fp32"  #: of that arithmetic, see `machine.bounds`


@dataclass(frozen=True)
class Aim:
    """What a variant is to reach on an H200."""

    of: str  #: "ms", at most; "per_second", "ratio", "copy" (share of copy bandwidth), at least
    value: float

    def __str__(self) -> str:
        return f"{self.of} {'≤' if self.of == 'ms' else '≥'} {self.value:g}"


@dataclass(frozen=True)
class Variant:
    """One way to solve a problem."""

    name: str
    run: Callable[[], Any]
    work: Callable[[Any], Work]  #: from what `run` returned
    goal: tuple[str, float] | None = None  #: for the ratio: ("≥", 100) or ("≤", 6)
    memory: Callable[[], float] | None = None  #: → peak bytes of a call beyond its arguments
    aim: Aim | None = None
    graph: bool = True  #: a CUDA graph can hold it: it does not wait for the device


@dataclass(frozen=True)
class Problem:
    """Inputs, and the variants that are timed on them in turn.

    The time of each variant over that of the first, per unit, is its ratio.
    """

    shape: str  #: sizes, in words
    unit: str  #: of what one time is: "image·iteration"
    variants: list[Variant]
    gate: Callable[[dict[str, Any]], None]  #: by name what each returned; raises `GateError`


@dataclass(frozen=True)
class Case:
    name: str
    operator: str | None  #: of fastseg, whose backend `Setup.backend` is
    devices: tuple[str, ...]
    problems: Callable[[Setup], Iterator[Problem]]

    @property
    def doc(self) -> str:
        return (self.problems.__doc__ or "").strip()

    def resolved(self, setup: Setup) -> Setup:
        """The same, with the backend that runs the operator there."""
        if self.operator is None:
            return setup
        device = torch.device(setup.device)
        return replace(setup, backend=resolve(self.operator, device, setup.backend))


CASES: dict[str, Case] = {}


def case(name: str, *devices: str, operator: str | None = None) -> Callable:
    """Register the decorated function as a case for "cpu", "gpu" or both."""

    def register(problems: Callable[[Setup], Iterator[Problem]]):
        if name in CASES:
            raise ValueError(f"a case named {name!r} exists already")
        CASES[name] = Case(name, operator, devices, problems)
        return problems

    return register
