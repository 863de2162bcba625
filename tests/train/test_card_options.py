"""What a run on a GPU is tuned by: profiles and the layout of memory."""

import json

import torch

from fastseg.methods import METHODS
from fastseg.train.profile import TABLE, TRACE
from tests.train.test_loop import assert_same
from tests.train.tiny import Tiny, TinyConfig


def test_a_profile_is_of_the_steps_asked_for_and_changes_nothing(bench):
    bench.run("plain", eval_every=0)
    folder = bench.run("profiled", eval_every=0, profile=2)  # of 6 steps the fourth and the fifth
    assert_same(bench, "plain", "profiled")
    text = (folder / TABLE).read_text("utf-8")
    assert text.startswith("2 steps of tiny\n")
    assert "aten::convolution" in text
    events = json.loads((folder / TRACE).read_text("utf-8"))["traceEvents"]
    # Two convolutions of each of two steps.
    assert sum(event.get("name") == "aten::convolution" for event in events) == 4


def test_channels_last(bench, monkeypatch):
    seen = []

    class Watching(Tiny):
        def loss(self, batch, progress, group=None):
            seen.append(batch.images.is_contiguous(memory_format=torch.channels_last))
            return super().loss(batch, progress, group)

    monkeypatch.setitem(METHODS, "tiny", Watching)
    config = TinyConfig(norm=False, sgd=True)
    bench.run("a", config)
    assert not any(seen)
    seen.clear()
    bench.run("b", config, channels_last=True)
    assert all(seen)
    torch.testing.assert_close(bench.state("a").model, bench.state("b").model)
