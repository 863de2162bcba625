"""Peak memory of a call, measured where nothing else runs: in a fresh process (Linux)."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def peak_of(prepare: Callable[[], Callable[[], Any]]) -> float:
    """Bytes by which resident memory rises above what it was before the call that `prepare` gives.

    `prepare` is picklable; it makes the call's arguments and warms up what stays loaded.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_measure, prepare).result()


def _measure(prepare: Callable[[], Callable[[], Any]]) -> float:
    call = prepare()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is what is resident now
    before = _status("VmHWM")
    result = call()
    peak = _status("VmHWM")
    del result
    return peak - before


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return float(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")
