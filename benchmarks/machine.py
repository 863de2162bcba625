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


@lru_cache(maxsize=2)
def bounds(device: str) -> tuple[float, float]:
    """Most bytes/s that a large copy moves, reading and writing, and FLOP/s of an fp32 product."""
    source = torch.ones((256 if device == "cuda" else 64) << 20, device=device)
    target = torch.empty_like(source)
    side = 8192 if device == "cuda" else 2048
    a, b = torch.ones(2, side, side, device=device)
    copy = _fastest(lambda: target.copy_(source), device)
    product = _fastest(lambda: torch.mm(a, b), device)
    return 2 * source.nbytes / copy, 2 * side**3 / product


def _fastest(call: Callable[[], Any], device: str, repeats: int = 7) -> float:
    """Seconds of the fastest of some calls, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])
