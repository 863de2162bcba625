"""Correctness gate, interleaved timing, rates."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from . import machine
from .registry import Case, Problem, Setup
from .timers import Timer, cuda_timers, host_timers

__all__ = ["Pace", "Row", "measure", "run"]


@dataclass(frozen=True)
class Pace:
    """How often to time: rounds until a variant has had `seconds`, within the limits."""

    least: int = 3
    most: int = 30
    seconds: float = 10.0


QUICK = Pace(least=1, most=3, seconds=0.1)


@dataclass(frozen=True)
class Row:
    """One variant's result; times are per unit. It becomes a line of the CSV."""

    case: str
    shape: str
    variant: str
    mode: str  #: "eager", or "graph": replayed from a CUDA graph
    unit: str
    ms: float
    ms_p20: float
    ms_p80: float
    rounds: int
    per_second: float  #: units
    ratio: float  #: of `ms` to that of the first variant
    goal: str
    gflops: float
    gbytes: float
    bound: str  #: "compute" or "memory": which of the two takes the machine longer
    share: float  #: least time that the machine's bound allows ÷ `ms`
    gflops_bound: float  #: of an fp32 matrix product on this machine in this run
    gbytes_bound: float  #: of a large copy
    io_mib: float  #: what `gbytes` counts
    memory_mib: float | None  #: peak of a call beyond its arguments


def run(case: Case, setup: Setup, pace: Pace | None = None) -> list[Row]:
    """Measure every problem of a case.

    Raises:
        GateError: the results are wrong; nothing was timed.
    """
    pace = pace or (QUICK if setup.quick else Pace())
    rows: list[Row] = []
    for problem in case.problems(setup):
        rows += measure(case.name, problem, setup.device, pace)
    return rows


def measure(name: str, problem: Problem, device: str, pace: Pace) -> list[Row]:
    """Gate, then time the variants of one problem in turn."""
    results = {variant.name: variant.run() for variant in problem.variants}
    problem.gate(results)
    ready = (cuda_timers if device == "cuda" else host_timers)(problem, results)
    del results
    samples = interleave([timer.seconds for timer in ready], pace)
    bounds = machine.bounds(device)
    first = np.median(samples[0]) / ready[0].work.units
    return [
        _row(name, problem, timer, np.array(times), float(first), bounds)
        for timer, times in zip(ready, samples, strict=True)
    ]


def interleave(timers: Sequence[Callable[[], float]], pace: Pace) -> list[list[float]]:
    """A B C A B C …: the seconds of each, slow ones dropping out as their time is up."""
    samples: list[list[float]] = [[] for _ in timers]
    spent = [0.0] * len(timers)
    active = list(range(len(timers)))
    while active:
        for i in active:
            start = time.perf_counter()
            samples[i].append(timers[i]())
            spent[i] += time.perf_counter() - start
        active = [
            i
            for i in active
            if len(samples[i]) < pace.least
            or (spent[i] < pace.seconds and len(samples[i]) < pace.most)
        ]
    return samples


def _row(
    name: str,
    problem: Problem,
    timer: Timer,
    times: np.ndarray,
    first: float,
    bounds: tuple[float, float],
) -> Row:
    variant, work = timer.variant, timer.work
    seconds = float(np.median(times))
    p20, p50, p80 = (float(q) / work.units * 1e3 for q in np.quantile(times, (0.2, 0.5, 0.8)))
    bandwidth, peak = bounds
    least = {"compute": work.flops / peak, "memory": work.bytes / bandwidth}
    bound = max(least, key=lambda kind: least[kind])
    memory = variant.memory() / 2**20 if variant.memory else None
    return Row(
        case=name,
        shape=problem.shape,
        variant=variant.name,
        mode=timer.mode,
        unit=problem.unit,
        ms=p50,
        ms_p20=p20,
        ms_p80=p80,
        rounds=len(times),
        per_second=work.units / seconds,
        ratio=seconds / work.units / first,
        goal="{} {:g}".format(*variant.goal) if variant.goal else "",
        gflops=work.flops / seconds / 1e9,
        gbytes=work.bytes / seconds / 1e9,
        bound=bound,
        share=least[bound] / seconds,
        gflops_bound=peak / 1e9,
        gbytes_bound=bandwidth / 1e9,
        io_mib=work.bytes / 2**20,
        memory_mib=memory,
    )
