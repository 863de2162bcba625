"""CUDA timing, and the checks that only a machine with a GPU can make."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import machine
from .registry import GateError, Problem
from .report import write_csv
from .runner import Timer

# --- Timing ------------------------------------------------------------------------------------


def timers(problem: Problem, results: dict[str, Any]) -> list[Timer]:
    """CUDA-event timers of each variant, and of its CUDA graph where it can be captured."""
    flush = _flush()
    ready = []
    for variant in problem.variants:
        work = variant.work(results[variant.name])
        ready.append(Timer(variant, "eager", work, _event_clock(variant.run, flush)))
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
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush()
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    return seconds


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


# --- Checks ------------------------------------------------------------------------------------


def check(folder: Path | None) -> bool:
    """Run the gpu-marked tests, then again under compute-sanitizer where it is installed.

    Writes `folder`/checks.csv; False if one failed.
    """
    tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
    outcomes = {"tests": _outcome(tests)}
    sanitizer = shutil.which("compute-sanitizer", path=_tool_path())
    for tool in ("memcheck", "racecheck"):
        # The exit status of a memory error must differ from those of pytest.
        command = [str(sanitizer), "--tool", tool, "--error-exitcode", "99", *tests]
        outcomes[tool] = _outcome(command) if sanitizer else "not run: no compute-sanitizer"
    lines = [
        {"check": name, "outcome": outcome, **machine.describe("cuda")}
        for name, outcome in outcomes.items()
    ]
    for line in lines:
        print(f"{line['check']:<12}{line['outcome']}")
    if folder is not None:
        write_csv(lines, list(lines[0]), folder / "checks.csv")
    return not any(outcome.startswith("failed") for outcome in outcomes.values())


def _tool_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])


def _outcome(command: list[str]) -> str:
    print("$", " ".join(command), flush=True)
    # Without PyTorch's cache of memory every tensor has bounds that memcheck sees.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    status = subprocess.run(command, cwd=machine.ROOT, env=environment).returncode
    return "passed" if status == 0 else f"failed with status {status}"
