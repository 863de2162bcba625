"""Which machine this is, what it can do at most, and of which code the numbers are."""

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("torch", "triton", "cupy-cuda12x", "cupy-cuda13x", "numpy", "scipy"),
    *("opencv-python", "opencv-python-headless", "opencv-contrib-python-headless"),
)


@lru_cache(maxsize=1)
def commit() -> str:
    """The commit checked out, "+dirty" where files other than the results differ from it."""
    if named := os.environ.get("FASTSEG_COMMIT"):  # of a copy without git
        return named

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *command], check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+dirty" if changed else "")


def processor() -> str:
    """The CPU's name."""
    try:
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        names = []
    return " ".join((names[0] if names else platform.processor() or platform.machine()).split())


def versions() -> str:
    """The packages that matter, those that are installed."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def describe(device: str) -> dict[str, Any]:
    """What every row of a result says about where it is from."""
    return {
        "commit": commit(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        "machine": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": versions(),
    }


def folder_name(device: str) -> str:
    """Of the results of this machine: "amd-epyc-2-cores", "nvidia-h200"."""
    name = describe(device)["machine"]
    if device == "cpu":
        name += f" {os.cpu_count()} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


# Of matrix products: the dtype, and whether float32 is rounded to TF32.
PRECISIONS = {
    "fp32": (torch.float32, False),
    "tf32": (torch.float32, True),
    "bf16": (torch.bfloat16, False),
}


def bounds(device: str, precision: str = "fp32") -> tuple[float, float]:
    """Most bytes/s that a large copy moves, reading and writing, and FLOP/s of a matrix product."""
    return _copy(device), _product(device, precision)


@lru_cache
def _copy(device: str) -> float:
    source = torch.ones((256 if device == "cuda" else 64) << 20, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: target.copy_(source), device)


@lru_cache
def _product(device: str, precision: str) -> float:
    side = 8192 if device == "cuda" else 2048
    dtype, tf32 = PRECISIONS[precision]
    # Random, as a GPU multiplies zeros and ones faster: they cost less power.
    a, b = torch.rand(2, side, side, device=device).to(dtype)
    chosen = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        return 2 * side**3 / _fastest(lambda: torch.mm(a, b), device)
    finally:
        torch.set_float32_matmul_precision(chosen)


def _fastest(call: Callable[[], Any], device: str, repeats: int = 7) -> float:
    """Seconds of the fastest of some calls, after one to warm up."""
    once = event_seconds if device == "cuda" else _wall_seconds
    return min([once(call) for _ in range(repeats + 1)][1:])


def _wall_seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def event_seconds(call: Callable[[], Any]) -> float:
    """Between CUDA events around a call."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3
