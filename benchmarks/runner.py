"""Correctness gate, interleaved timing, rates."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from . import machine
from .registry import Case, GateError, Problem, Setup
from .timers import Timer, cuda_timers, host_timers

__all__ = ["Failure", "Pace", "Row", "measure", "run"]


@dataclass(frozen=True)
class Pace:
    """How often to time: rounds until a variant has had `seconds`, within the limits."""

    least: int = 3
    most: int = 30
    seconds: float = 10.0


QUICK = Pace(least=1, most=3, seconds=0.1)
GPU = Pace(most=50, seconds=2.0)


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
    ratio: float  #: of `ms` to that of the first variant, in the same mode if it has it
    goal: str
    aim: str  #: of the variant on an H200
    gflops: float
    gbytes: float
    bound: str  #: "compute" or "memory": which of the two takes the machine longer
    share: float  #: least time that the machine's bound allows ÷ `ms`
    gflops_bound: float  #: of a matrix product in the same precision on this machine in this run
    gbytes_bound: float  #: of a large copy
    io_mib: float  #: what `gbytes` counts
    memory_mib: float | None  #: peak of a call beyond its arguments


@dataclass(frozen=True)
class Failure:
    """A problem, or what was left of a case, that was not measured."""

    case: str
    shape: str
    why: str


def run(
    case: Case, setup: Setup, pace: Pace | None = None, done: Collection[str] = ()
) -> Iterator[list[Row] | Failure]:
    """Measure the problems of a case one by one, those `done`, by their shape, left out."""
    pace = pace or (QUICK if setup.quick else GPU if setup.device == "cuda" else Pace())
    problems = case.problems(setup)
    while True:
        shape = "what follows"
        try:
            problem = next(problems, None)
            if problem is None:
                return
            shape = problem.shape
            if shape not in done:
                yield measure(case.name, problem, setup.device, pace)
        except GateError as error:
            yield Failure(case.name, shape, f"WRONG, not measured: {error}")
        except Exception as error:  # the next problem may do
            yield Failure(case.name, shape, f"failed: {_first_line(error)}")
        problem = None  # its tensors make room for the next


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().split("\n")[0]


def results_of(problem: Problem, device: str) -> tuple[Problem, dict[str, Any]]:
    """What each variant returns, and the problem without those peers that fail."""
    results: dict[str, Any] = {}
    for variant in problem.variants:
        try:
            results[variant.name] = variant.run()
            if device == "cuda":
                torch.cuda.synchronize()
        except Exception as error:
            if not results:
                raise
            print(f"{problem.shape}: {variant.name} is left out: {_first_line(error)}")
        if device == "cuda":
            torch.cuda.empty_cache()
    able = [variant for variant in problem.variants if variant.name in results]
    return replace(problem, variants=able), results


def measure(name: str, problem: Problem, device: str, pace: Pace) -> list[Row]:
    """Gate, then time the variants of one problem in turn.

    Raises:
        GateError: the results are wrong; nothing was timed.
    """
    problem, results = results_of(problem, device)
    problem.gate(results)
    ready = (cuda_timers if device == "cuda" else host_timers)(problem, results)
    del results
    samples = interleave([timer.seconds for timer in ready], pace)
    ours = {
        timer.mode: float(np.median(times)) / timer.work.units
        for timer, times in zip(ready, samples, strict=True)
        if timer.variant is problem.variants[0]
    }
    rows = []
    for timer, times in zip(ready, samples, strict=True):
        first = ours.get(timer.mode, ours["eager"])
        bounds = machine.bounds(device, timer.work.precision)
        rows.append(_row(name, problem, timer, np.array(times), first, bounds))
    return rows


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
        aim=str(variant.aim or ""),
        gflops=work.flops / seconds / 1e9,
        gbytes=work.bytes / seconds / 1e9,
        bound=bound,
        share=least[bound] / seconds,
        gflops_bound=peak / 1e9,
        gbytes_bound=bandwidth / 1e9,
        io_mib=work.bytes / 2**20,
        memory_mib=None if timer.memory is None else timer.memory / 2**20,
    )
