"""Clocks: of the wall on a CPU, CUDA events on a GPU."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch

from .machine import event_seconds
from .registry import GateError, Problem, Variant, Work

# A call shorter than this is repeated, so that the clock and the loop do not count.
SHORTEST = 0.02


@dataclass(frozen=True)
class Timer:
    """One variant ready to be timed: a call gives the seconds of one solution."""

    variant: Variant
    mode: str
    work: Work
    seconds: Callable[[], float]
    memory: float | None = None  #: peak bytes of a call beyond its arguments


def host_timers(problem: Problem, results: dict) -> list[Timer]:
    """Wall-clock timers."""
    ready = []
    for variant in problem.variants:
        work = variant.work(results[variant.name])
        memory = variant.memory() if variant.memory else None
        ready.append(Timer(variant, "eager", work, _wall_clock(variant.run), memory))
    return ready


def _wall_clock(call: Callable[[], object]) -> Callable[[], float]:
    calls = 1

    def seconds() -> float:
        nonlocal calls
        while True:
            start = time.perf_counter()
            for _ in range(calls):
                call()
            took = time.perf_counter() - start
            if took >= SHORTEST / 2:
                return took / calls
            calls = ceil(calls * SHORTEST / max(took, SHORTEST / 100))

    return seconds


def cuda_timers(problem: Problem, results: dict[str, Any]) -> list[Timer]:
    """CUDA-event timers of each variant, and of its CUDA graph where it can be captured."""
    flush = _flush()
    ready = []
    for variant in problem.variants:
        work = variant.work(results[variant.name])
        clock = _event_clock(variant.run, flush)
        ready.append(Timer(variant, "eager", work, clock, _peak(variant.run)))
        if not variant.graph:
            continue
        captured = _capture(variant.run)
        if isinstance(captured, str):
            print(f"{variant.name}: no CUDA graph ({captured})")
            continue
        replay, output = captured
        replay()
        try:
            problem.gate({**results, variant.name: output})
        except GateError as error:
            raise GateError(f"replayed from a CUDA graph: {error}") from error
        ready.append(Timer(variant, "graph", work, _event_clock(replay, flush)))
    return ready


def _flush() -> Callable[[], Any]:
    """Overwrite twice the L2 cache, so that no call finds its input there."""
    size = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    return torch.empty(2 * size, dtype=torch.uint8, device="cuda").zero_


def _event_clock(call: Callable[[], Any], flush: Callable[[], Any]) -> Callable[[], float]:
    def seconds() -> float:
        flush()
        return event_seconds(call)

    return seconds


def _peak(call: Callable[[], Any]) -> float:
    """Bytes that a call asks PyTorch for beyond what is taken."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


def _capture(call: Callable[[], Any]) -> tuple[Callable[[], None], Any] | str:
    """Replay of `call` and where its result will be, or why it cannot be captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            output = call()
    except RuntimeError as error:  # what PyTorch and CuPy raise for an operation not permitted
        torch.cuda.synchronize()
        return str(error).strip().split("\n")[0]
    return graph.replay, output
