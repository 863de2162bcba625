"""`python -m benchmarks gpu`, as far as a machine without a GPU can run it."""

import csv
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks import __main__ as program
from benchmarks import gpu, machine, registry, report, runner, timers
from benchmarks.peers import attention
from benchmarks.registry import CASES, Aim, GateError, Problem, Setup, Variant, Work
from fastseg.backends import BackendUnavailable

ABOUT = {"commit": "c0ffee", "date": "2026-01-01T00:00Z", "machine": "a card"}


@pytest.fixture(autouse=True)
def _known_machine(monkeypatch):
    monkeypatch.setattr(machine, "bounds", lambda device, precision="fp32": (1e10, 1e11))
    monkeypatch.setattr(machine, "describe", lambda device: ABOUT)
    monkeypatch.setattr(report, "_plot", lambda rows, about: b"")


def problem(name: str, *others, gate=lambda results: None) -> Problem:
    """Ours, and peers that do what they are."""
    run = [lambda: torch.ones(3), *others]
    names = ["ours", *(f"peer {i}" for i in range(len(others)))]
    ways = [Variant(n, f, lambda _: Work(1, 1, 1)) for n, f in zip(names, run, strict=True)]
    return Problem(name, "call", ways, gate)


def out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


@pytest.fixture
def register(monkeypatch):
    """register("name", problems…) is a case of them, one that is an error is raised."""
    monkeypatch.setattr(registry, "CASES", {})
    monkeypatch.setattr(program, "CASES", registry.CASES)

    def add(name, *problems):
        def made(setup):
            for one in problems:
                if isinstance(one, Exception):
                    raise one
                yield one

        registry.case(name, "cpu", "gpu")(made)

    return add


def lines(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


# --- One process -------------------------------------------------------------------------------


def test_a_peer_without_memory_is_left_out_and_says_so(register, tmp_path, capsys):
    register("case", problem("big", out_of_memory, torch.zeros_like(torch.ones(3)).clone))
    assert program.main(["--quick", "--out", str(tmp_path)]) == 0
    assert [line["variant"] for line in lines(tmp_path / "case.csv")] == ["ours", "peer 1"]
    said = "big: peer 0 is left out: OutOfMemoryError: CUDA out of memory."
    assert said in capsys.readouterr().out


def test_a_failing_problem_does_not_end_the_run(register, tmp_path, capsys):
    def wrong(results):
        raise GateError("no")

    fine = problem("fine")
    broken = replace(fine, shape="broken", variants=[replace(fine.variants[0], run=out_of_memory)])
    register("one", problem("wrong", gate=wrong), broken, fine, RuntimeError("no room"))
    register("two", fine)
    assert program.main(["--quick", "--out", str(tmp_path)]) == 1
    assert [line["shape"] for line in lines(tmp_path / "one.csv")] == ["fine"]
    assert [line["shape"] for line in lines(tmp_path / "two.csv")] == ["fine"]
    found = {line["shape"]: line["why"] for line in lines(tmp_path / "failures.csv")}
    assert found == {
        "wrong": "WRONG, not measured: no",
        "broken": "failed: OutOfMemoryError: CUDA out of memory.",
        "what follows": "failed: RuntimeError: no room",
    }
    assert "one: broken: failed" in capsys.readouterr().err


def test_resume_leaves_out_what_this_commit_has_measured(register, tmp_path, monkeypatch):
    calls = []

    def counted(name):
        def run():
            calls.append(name)
            return torch.ones(3)

        fine = problem(name)
        return replace(fine, variants=[replace(fine.variants[0], run=run)])

    both = counted("first"), counted("second")
    register("case", both[0], RuntimeError("stopped here"))
    arguments = ["--quick", "--out", str(tmp_path), "--resume"]
    assert program.main(arguments) == 1
    register("again", *both)
    registry.CASES["case"] = replace(registry.CASES.pop("again"), name="case")
    calls.clear()
    assert program.main(arguments) == 0
    assert set(calls) == {"second"}
    assert [line["shape"] for line in lines(tmp_path / "case.csv")] == ["first", "second"]
    assert lines(tmp_path / "failures.csv") == []
    rows = report.load(tmp_path / "case.csv", "c0ffee")
    assert [row.shape for row in rows] == ["first", "second"]
    assert isinstance(rows[0].ms, float)
    assert rows[0].memory_mib is None
    monkeypatch.setattr(machine, "describe", lambda device: {**ABOUT, "commit": "later"})
    calls.clear()
    assert program.main(arguments) == 0
    assert set(calls) == {"first", "second"}


def test_ratios_are_within_a_mode(monkeypatch):
    """Of a replayed graph to a replayed graph; to ours without one where ours has none."""

    def timers_of(modes):
        def timer(i, mode, seconds):
            return timers.Timer(two.variants[i], mode, Work(1), lambda: seconds)

        return lambda problem, results: [timer(*one) for one in modes]

    two = problem("x", torch.Tensor)
    peer = [(1, "eager", 8.0), (1, "graph", 3.0)]
    for ours, ratios in (
        ([(0, "eager", 4.0), (0, "graph", 1.0)], [1, 1, 2, 3]),
        ([(0, "eager", 4.0)], [1, 2, 0.75]),
    ):
        modes = ours + peer
        monkeypatch.setattr(runner, "host_timers", timers_of(modes))
        rows = runner.measure("case", two, "cpu", runner.Pace(1, 1, 0))
        assert [row.ratio for row in rows] == ratios
        assert [row.mode for row in rows] == [mode for _, mode, _ in modes]


def test_an_aim_says_which_way():
    assert str(Aim("ms", 3)) == "ms ≤ 3"
    assert str(Aim("copy", 0.65)) == "copy ≥ 0.65"


# --- The parts of a run on a GPU ---------------------------------------------------------------


environments: list[dict[str, str]] = []
killed: list[int] = []


@pytest.fixture
def processes(monkeypatch):
    """What is run in place of each command, by its last word: an exit status, or "hangs"."""
    statuses: dict[str, int | str] = {}
    ran: list[tuple[str, ...]] = []

    class Process:
        pid = 77

        def __init__(self, command, cwd, env, start_new_session):
            assert start_new_session
            self.command = command
            ran.append(tuple(command))
            environments.append(env)

        def wait(self, timeout=None):
            command = self.command
            named = command[command.index("--only") + 1] if "--only" in command else command[-1]
            status = statuses.get(named, 0)
            if isinstance(status, str) and timeout is not None:
                raise subprocess.TimeoutExpired(command, timeout)
            return status

    environments.clear()
    killed.clear()
    monkeypatch.setattr(gpu.subprocess, "Popen", Process)
    monkeypatch.setattr(gpu.os, "killpg", lambda pid, number: killed.append(pid))
    monkeypatch.setattr(gpu.shutil, "which", lambda name, path: f"/bin/{name}")
    return statuses, ran


def run_parts(folder, names=(), cases=("a", "b"), minutes=None, resume=False):
    return gpu.run(names, cases, ["--quick"], folder, minutes, resume)


def test_the_checks_are_the_tests_and_both_tools_on_every_file_of_kernels(processes, tmp_path):
    _, ran = processes
    assert run_parts(tmp_path, program.CHECKS, ()) == 0
    assert ran[0][-4:] == ("no:cacheprovider", "-m", "gpu", "tests/gpu")
    tools = {(c[0], c[2], Path(c[-1]).stem) for c in ran[1:]}
    others = {"test_compile", "test_torch_attention", "test_training"}
    files = {path.stem for path in gpu.TESTS.glob("test_*.py")} - others
    tool = "/bin/compute-sanitizer"
    expected = {(tool, "memcheck", name) for name in files}
    expected |= {(tool, "racecheck", name) for name in files - {"test_operators"}}
    assert tools == expected
    assert all("99" in command for command in ran[1:])
    # Without a cache of memory nothing can be captured.
    cached = ["PYTORCH_NO_CUDA_MEMORY_CACHING" not in one for one in environments]
    assert cached == [True, *[False] * len(tools)]
    assert all("not cuda_graph" in " ".join(command) for command in ran[1:])
    found = lines(tmp_path / "checks.csv")
    assert len(found) == len(ran)
    assert {line["outcome"] for line in found} == {"passed"}
    assert {line["commit"] for line in found} == {"c0ffee"}


def test_checks_that_passed_are_not_repeated_those_that_failed_are(processes, tmp_path):
    statuses, ran = processes
    bad = "tests/gpu/test_cuda_slic.py"
    statuses[bad] = 99
    assert run_parts(tmp_path, ("memcheck",), ()) == 1
    ran.clear()
    statuses.clear()
    assert run_parts(tmp_path, ("memcheck",), (), resume=True) == 0
    assert [command[-1] for command in ran] == [bad]
    outcomes = {line["what"]: line["outcome"] for line in lines(tmp_path / "checks.csv")}
    assert set(outcomes.values()) == {"passed"}


def test_without_a_sanitizer_the_checks_say_so(processes, tmp_path, monkeypatch):
    _, ran = processes
    monkeypatch.setattr(gpu.shutil, "which", lambda name, path: None)
    assert run_parts(tmp_path, ("racecheck",), ()) == 0
    assert not ran
    outcomes = {line["outcome"] for line in lines(tmp_path / "checks.csv")}
    assert outcomes == {"not run: no compute-sanitizer"}


def test_a_case_is_a_process_and_its_death_does_not_end_the_run(processes, tmp_path, capsys):
    statuses, ran = processes
    statuses["a"] = -11
    assert run_parts(tmp_path) == 1
    assert [c[1:] for c in ran] == [
        ("-m", "benchmarks", "gpu", "--here", "--only", name, "--quick") for name in "ab"
    ]
    (line,) = lines(tmp_path / "failures.csv")
    assert (line["case"], line["why"]) == ("a", "failed with status -11")
    assert "a: failed with status -11" in capsys.readouterr().err


def test_what_is_over_time_is_ended_and_what_follows_is_left(processes, tmp_path, monkeypatch):
    statuses, ran = processes
    now = [0.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    statuses["b"] = "hangs"
    assert run_parts(tmp_path, cases="abc") == 3
    assert len(ran) == 3  # a hanging case is ended, the others go on
    assert killed == [77]
    ran.clear()
    limits = []

    def slow(part, timeout):
        limits.append(timeout)
        now[0] += 100
        return 0

    monkeypatch.setattr(gpu.subprocess.Popen, "wait", slow)
    assert run_parts(tmp_path, cases="abc", minutes=2.5) == 3
    assert limits == [150, 50]  # seconds that each may take; none for the third


def test_a_part_is_ended_with_what_it_started():
    script = "import subprocess; subprocess.run(['sleep', '60'])"
    assert gpu.status_of((sys.executable, "-c", script), 0.5) is None
    assert gpu.status_of((sys.executable, "-c", "raise SystemExit(4)"), 60) == 4


def test_main_runs_its_parts(processes, monkeypatch, tmp_path):
    _, ran = processes
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    arguments = ["gpu", "--only", "slic", "--only", "memcheck", "--resume", "--out", str(tmp_path)]
    assert program.main(arguments) == 0
    assert {command[2] for command in ran[:-1]} == {"memcheck"}
    assert ran[-1][0] == sys.executable
    assert ran[-1][6:] == ("slic", "--backend", "auto", "--out", str(tmp_path), "--resume")
    ran.clear()
    assert program.main([*arguments, "--no-checks"]) == 0
    assert len(ran) == 1


# --- The cases ---------------------------------------------------------------------------------

# Their data, the number of superpixels, is not there.
NEEDS_DATA = {"inmars_step"}


@pytest.mark.parametrize(
    "name", [c.name for c in CASES.values() if "gpu" in c.devices and c.name not in NEEDS_DATA]
)
def test_what_a_graph_is_to_hold_waits_for_nothing(name, monkeypatch):
    """On tensors without memory: all is on one device, and no value is asked for. Kernels do not
    run there, all around them does."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    product = F.scaled_dot_product_attention  # FlexAttention refuses such tensors
    flex = lambda q, k, v, block_mask: product(q, k, v)  # noqa: E731
    monkeypatch.setattr(attention, "_compiled_flex", lambda: flex)
    ran = 0
    for one in CASES[name].problems(Setup("meta", "reference", quick=True)):
        for variant in one.variants:
            if variant.graph:
                try:
                    result = variant.run()
                except BackendUnavailable:  # Triton is asked for by name
                    continue
                ran += 1
                parts = result if isinstance(result, tuple | list) else (result,)
                assert all(p.is_meta for p in parts if isinstance(p, torch.Tensor))
    assert ran or name.endswith("_step")
