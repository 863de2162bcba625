"""The checks that only a machine with a GPU can make."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import machine
from .report import write_csv


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
