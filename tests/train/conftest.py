"""What tests of training share."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fastseg.train import TrainConfig, load, train
from fastseg.train.checkpoint import CHECKPOINT
from tests.train.tiny import TinyConfig

OPTIONS = TrainConfig("fruits?limit=12", size=32, tensorboard=False, pictures=0, device="cpu")


class Bench:
    """Runs of the tiny method in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, out: str, config: TinyConfig | None = None, **options) -> Path:
        chosen = replace(OPTIONS, out=str(self.folder / out), **options)
        return train("tiny", config or TinyConfig(), chosen)

    def state(self, out: str):
        return load(self.folder / out / CHECKPOINT)

    def lines(self, out: str) -> list[dict]:
        """Those of metrics.jsonl without what a clock says."""
        text = (self.folder / out / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        clock = ("seconds", "pictures_per_second")
        return [{k: v for k, v in line.items() if k not in clock} for line in lines]


@pytest.fixture
def bench(tmp_path, one_thread) -> Bench:
    return Bench(tmp_path)
