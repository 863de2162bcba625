"""What a run on a GPU consists of, part by part: the tests, the sanitizers, the cases.

Each part is a process of its own, since an error on the device, or a call that never ends, is the
end of a process. What a part finds is written as it comes, so a run can be ended at any time and
goes on with `--resume`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import machine
from .report import lines_of, note, write_csv
from .runner import Failure

TESTS = machine.ROOT / "tests" / "gpu"
# Races are looked for in fastseg's own kernels, not in PyTorch's around them.
TOOLS = {"memcheck": ("cuda", "operators", "triton"), "racecheck": ("cuda", "triton")}
LONGEST = 900.0  # seconds of a part
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu")
# Under a sanitizer tests of more than 2³¹ pixels would take hours, and without PyTorch's cache of
# memory, so that every tensor has bounds that memcheck sees, nothing can be captured.
SANITIZED = ("-k", "not more_than and not cuda_graph")
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
ENDED = "ended, out of time"
# What a case's process has said itself.
SAID = ("failed with status 1", "failed with status 2")


@dataclass(frozen=True)
class Part:
    """A command of a run."""

    name: str  #: what `--only` calls it
    what: str
    command: tuple[str, ...] | str  #: or why it cannot be run


def checks() -> Iterator[Part]:
    """The gpu-marked tests, then file by file those of kernels under compute-sanitizer."""
    yield Part("tests", "all", (sys.executable, *PYTEST, str(TESTS.relative_to(machine.ROOT))))
    sanitizer = shutil.which("compute-sanitizer", path=_tool_path())
    for tool, kinds in TOOLS.items():
        for file in sorted(file for kind in kinds for file in TESTS.glob(f"test_{kind}*.py")):
            # The exit status of a memory error must differ from those of pytest.
            tests = (sys.executable, *PYTEST, *SANITIZED, str(file.relative_to(machine.ROOT)))
            command = (str(sanitizer), "--tool", tool, "--error-exitcode", "99", *tests)
            yield Part(tool, file.stem, command if sanitizer else "no compute-sanitizer")


class Clock:
    """How much is left of the minutes that a run may take."""

    def __init__(self, minutes: float | None) -> None:
        self.end = None if minutes is None else time.monotonic() + 60 * minutes

    def left(self) -> float:
        """Seconds that the next part may take."""
        return LONGEST if self.end is None else min(LONGEST, self.end - time.monotonic())


def status_of(command: tuple[str, ...], seconds: float) -> int | None:
    """The exit status of a part, None if it was ended, with all that it started, when its time was
    up."""
    print("$", " ".join(command), flush=True)
    part = subprocess.Popen(
        command, cwd=machine.ROOT, env=_environment(command), start_new_session=True
    )
    try:
        return part.wait(seconds)
    except BaseException as error:
        os.killpg(part.pid, signal.SIGKILL)
        part.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return None
        raise


def _environment(command: tuple[str, ...]) -> dict[str, str]:
    paths = [str(machine.ROOT), os.environ.get("PYTHONPATH", "")]
    ours = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return {**os.environ, **ours, **(UNCACHED if "--tool" in command else {})}


def _tool_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])


def check(
    parts: list[Part], about: dict[str, Any], folder: Path | None, clock: Clock, resume: bool
) -> list[str]:
    """Run checks, an outcome of each: "passed", "failed with status 1", "not run: …".

    `folder`/checks.csv is written after each. `resume`: those that passed there at this commit are
    not repeated.
    """
    outcomes = []
    for part in parts:
        if resume and _has_passed(part, about["commit"], folder):
            outcome = "passed"
        else:
            outcome = _outcome(part, clock)
            _record(part, outcome, about, folder)
        print(f"{part.name:<12}{part.what:<28}{outcome}", flush=True)
        outcomes.append(outcome)
    return outcomes


def _has_passed(part: Part, commit: str, folder: Path | None) -> bool:
    wanted = part.name, part.what, "passed", commit
    lines = lines_of(folder / "checks.csv") if folder else []
    return any(
        wanted == (line["check"], line["what"], line["outcome"], line["commit"]) for line in lines
    )


def _outcome(part: Part, clock: Clock) -> str:
    if isinstance(part.command, str):
        return f"not run: {part.command}"
    left = clock.left()
    status = status_of(part.command, left) if left > 0 else None
    if status is None:
        return ENDED
    return "passed" if status == 0 else f"failed with status {status}"


def _record(part: Part, outcome: str, about: dict[str, Any], folder: Path | None) -> None:
    if folder is None:
        return
    line = {"check": part.name, "what": part.what, "outcome": outcome, **about}
    key = part.name, part.what
    lines = [kept for kept in lines_of(folder / "checks.csv")
             if (kept["check"], kept["what"]) != key]  # fmt: skip
    write_csv([*lines, line], list(line), folder / "checks.csv")


def run(
    names: Collection[str],
    cases: Sequence[str],
    arguments: Sequence[str],
    folder: Path | None,
    minutes: float | None,
    resume: bool,
) -> int:
    """The checks of these names, then the cases, each with these arguments: the exit status.

    0 all is measured and right, 1 something is wrong or failed, 3 the time was up before the end.
    """
    clock, about = Clock(minutes), machine.describe("cuda")
    parts = [part for part in checks() if part.name in names]
    outcomes = check(parts, about, folder, clock, resume)
    for name in cases:
        command = (sys.executable, "-m", "benchmarks", "gpu", "--here", "--only", name, *arguments)
        outcomes.append(_outcome(Part(name, "case", command), clock))
        if outcomes[-1] not in ("passed", *SAID):
            print(f"{name}: {outcomes[-1]}", file=sys.stderr, flush=True)
            if folder is not None:
                note(name, [Failure(name, "what follows", outcomes[-1])], about, folder, keep=True)
    late = outcomes.count(ENDED)
    if late:
        print(f"{late} parts are left: the same command with --resume goes on")
        return 3
    return int(any(outcome.startswith("failed") for outcome in outcomes))
