"""Runs in processes of their own: killed, stopped, and several that share their batches."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fastseg.train import load
from fastseg.train.checkpoint import CHECKPOINT

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TINY = [str(HERE / "tiny.py"), "train", "tiny", "--data", "fruits?limit=12", "--size", "32"]
TINY += ["--no-tensorboard", "--pictures", "0"]


def start(*arguments, ranks=1):
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command += [*TINY, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=ENVIRONMENT, **pipes)


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_killed_runs_go_on_as_if_never_killed():
    """A few; CONTRIBUTING.md says how to try many."""
    command = [sys.executable, str(HERE / "kill.py"), "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "3 kills" in done.stdout
    assert "all as if never killed" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_saves(tmp_path, number):
    out = tmp_path / "run"
    process = start("--out", out, "--epochs", 10_000, "--eval-every", 0)
    while process.poll() is None and not (out / CHECKPOINT).exists():
        time.sleep(0.02)
    process.send_signal(number)
    status, _, err = finish(process)
    assert status == 130, err
    position = load(out / CHECKPOINT).position
    assert f"stopped after step {position.step}" in err
    assert "the same command goes on from there" in err
    assert len(lines(out)) == position.epoch


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with the whole batch."""
    out = tmp_path_factory.mktemp("alone")
    status, _, err = finish(start("--out", out, "--sgd"))
    assert status == 0, err
    return out


def assert_close(one, other):
    """But for the order of sums the runs are equal."""
    a, b = (load(out / CHECKPOINT) for out in (one, other))
    torch.testing.assert_close(b.model, a.model, rtol=1e-4, atol=1e-6)
    for x, y in zip(lines(one), lines(other), strict=True):
        for name in ("loss", "marginal", "conditional", "gradient"):
            assert y[name] == pytest.approx(x[name], rel=1e-4)
        for variant in ("tiny", "shifted"):
            scores = [line["scores"][variant]["last"]["accuracy"] for line in (x, y)]
            assert scores[1] == pytest.approx(scores[0], abs=2e-3)


def test_ranks_that_share_batches_are_as_one_process(alone, tmp_path):
    out = tmp_path / "two"
    status, printed, err = finish(start("--out", out, "--sgd", ranks=2))
    assert status == 0, err
    assert printed.count("epoch 2/2") == 1
    assert_close(alone, out)


def test_ranks_go_on_from_one_process(alone, tmp_path):
    """And stop together: each may see the signal in another step."""
    out = tmp_path / "run"
    arguments = ["--out", out, "--sgd", "--epochs", 2000, "--eval-every", 0]
    process = start(*arguments, ranks=2)
    while process.poll() is None and not (out / CHECKPOINT).exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, _, err = finish(process)
    assert status != 0
    position = load(out / CHECKPOINT).position
    assert position.epoch >= 1
    assert f"stopped after step {position.step}" in err


def test_statistics_of_parts_are_others(alone, tmp_path):
    out = tmp_path / "local"
    status, _, err = finish(start("--out", out, "--sgd", "--batch-norm", "local", ranks=2))
    assert status == 0, err
    assert lines(out)[-1]["loss"] != pytest.approx(lines(alone)[-1]["loss"], rel=1e-4)


def test_a_batch_that_ranks_cannot_share_is_refused(tmp_path):
    status, _, err = finish(start("--out", tmp_path / "x", "--batch-size", 3, ranks=2))
    assert status != 0
    assert "`batch_size` must be a multiple of `world`, got 3 of 2" in err
