"""Kill training runs without warning, and see that each goes on as if nothing had been.

    python tests/train/kill.py 20

A process is forked for each life of a run and killed by SIGKILL at a random moment, so that all of
start, steps, evaluation and the writing of checkpoints are hit. After each kill the checkpoint, if
there is one, must load; a run that gets to its end must have the weights, optimiser and lines of
one that was never killed, to the bit. Runs follow each other until the kills are done.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fastseg.train import Checkpoint, TrainConfig, load, train
from fastseg.train.checkpoint import CHECKPOINT

sys.path.append(str(Path(__file__).parents[2]))

from tests.train.tiny import TinyConfig

OPTIONS = TrainConfig(
    "fruits?limit=24", size=32, save_every=2, tensorboard=False, pictures=2, device="cpu"
)
CONFIG = TinyConfig(epochs=3, width=400)  # so wide that writing a checkpoint takes a while
CLOCK = ("seconds", "pictures_per_second")


@dataclass
class Report:
    """What came of it."""

    kills: Counter[str]  #: by the step that the checkpoint then was of
    ends: int  #: runs that came to their end, each as the one never killed


def kill_runs(kills: int, folder: Path, seed: int = 0) -> Report:
    """Kill `kills` times; an AssertionError says what was not as it must be."""
    chance = random.Random(seed)
    # Here and not in a process of its own, so that lives need not import what a run does.
    train("tiny", CONFIG, replace(OPTIONS, out=str(folder / "whole")))
    begun = time.perf_counter()
    assert wait(live(folder / "again")) == 0
    whole_life = time.perf_counter() - begun
    report = Report(Counter(), 0)
    while report.kills.total() < kills:
        out = folder / f"killed_{report.ends}"
        while True:
            child = live(out)
            if report.kills.total() < kills:
                time.sleep(chance.uniform(0, 0.8 * whole_life))
                os.kill(child, signal.SIGKILL)
            status = wait(child)
            if not os.WIFSIGNALED(status):
                break
            path = out / CHECKPOINT
            report.kills[f"step {load(path).position.step}" if path.exists() else "none"] += 1
        assert os.waitstatus_to_exitcode(status) == 0, "a life ended with an error"
        same(load(folder / "whole" / CHECKPOINT), load(out / CHECKPOINT))
        assert lines(folder / "whole") == lines(out)
        report.ends += 1
    return report


def live(out: Path) -> int:
    """Start or go on with a run in a process of its own."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    status = 1
    try:
        train("tiny", CONFIG, replace(OPTIONS, out=str(out)))
        status = 0
    finally:
        os._exit(status)


def wait(child: int) -> int:
    return os.waitpid(child, 0)[1]


def same(a: Checkpoint, b: Checkpoint) -> None:
    torch.testing.assert_close(b.model, a.model, rtol=0, atol=0)
    torch.testing.assert_close(b.optimizer, a.optimizer, rtol=0, atol=0)


def lines(out: Path) -> list[dict]:
    """Those of metrics.jsonl without what a clock says."""
    found = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in found]


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(tempfile.mkdtemp())
    try:
        report = kill_runs(int(sys.argv[1]), place)
    finally:
        shutil.rmtree(place)
    found = ", ".join(f"{place} {count}×" for place, count in sorted(report.kills.items()))
    print(f"{report.kills.total()} kills, {report.ends} runs to their end, all as if never killed.")
    print("Checkpoint after a kill:", found)
