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
from tests.train.tiny import TinyConfig

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TINY = [str(HERE / "tiny.py"), "train", "tiny", "--data", "fruits?limit=12", "--size", "32"]
TINY += ["--no-tensorboard", "--pictures", "0"]


def start(*arguments, ranks=1):
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command += [*TINY, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, text=True, env=ENVIRONMENT, stdout=pipe, stderr=pipe)


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


def test_a_signal_stops_and_saves(tmp_path):
    out = tmp_path / "run"
    process = start("--out", out, "--epochs", 10_000, "--eval-every", 0)
    while process.poll() is None and not (out / CHECKPOINT).exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, _, err = finish(process)
    assert status == 130, err
    position = load(out / CHECKPOINT).position
    assert f"stopped after step {position.step}" in err
    assert "the same command goes on from there" in err
    assert len(lines(out)) == position.epoch


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


def test_ranks_that_share_batches_are_as_one_process(bench, tmp_path):
    alone, out = bench.run("alone", TinyConfig(sgd=True)), tmp_path / "two"
    status, printed, err = finish(start("--out", out, "--sgd", ranks=2))
    assert status == 0, err
    assert printed.count("epoch 2/2") == 1
    assert_close(alone, out)


def test_ranks_stop_together(tmp_path):
    """Each may see the signal in another step."""
    out = tmp_path / "run"
    process = start("--out", out, "--epochs", 10_000, "--eval-every", 0, ranks=2)
    while process.poll() is None and not (out / CHECKPOINT).exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, _, err = finish(process)
    assert status != 0
    position = load(out / CHECKPOINT).position
    assert position.epoch >= 1
    assert f"stopped after step {position.step}" in err
