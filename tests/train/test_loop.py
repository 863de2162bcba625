"""The loop: the same numbers again, stopped or not, and what it says when it cannot go on."""

import json
import os
import signal
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from fastseg.methods import METHODS
from fastseg.methods.base import Method
from fastseg.train import ConfigError, Stopped, TrainingError
from fastseg.train.lock import locked
from fastseg.train.log import Shown, draw
from tests.train.tiny import Tiny, TinyConfig


def assert_same(bench, one, other):
    """Weights, optimiser, position and lines of two runs are equal to the bit."""
    a, b = bench.state(one), bench.state(other)
    torch.testing.assert_close(a.model, b.model, rtol=0, atol=0)
    torch.testing.assert_close(a.optimizer, b.optimizer, rtol=0, atol=0)
    assert [a.position.epoch, a.position.step] == [b.position.epoch, b.position.step]
    assert a.facts["scaler"] == b.facts["scaler"]
    assert bench.lines(one) == bench.lines(other)


class Interrupting(Tiny):
    """Sends this process a signal in some step, or in the midst of an evaluation."""

    at: int | None = None
    number = signal.SIGTERM

    def loss(self, batch, progress, group=None):
        found = super().loss(batch, progress, group)
        if self.steps == self.at:
            os.kill(os.getpid(), self.number)
        return found

    def predict(self, batch):
        if self.at == -1:
            os.kill(os.getpid(), self.number)
        return super().predict(batch)


@pytest.fixture
def interrupting(monkeypatch):
    monkeypatch.setitem(METHODS, "tiny", Interrupting)
    return lambda at: monkeypatch.setattr(Interrupting, "at", at)


# --- the same numbers again --------------------------------------------------------------------


def test_a_seed_decides_everything(bench):
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        bench.run(out, seed=seed)
    assert_same(bench, "a", "b")
    assert bench.lines("a") != bench.lines("c")
    assert bench.lines("a")[0]["loss"] != bench.lines("a")[1]["loss"]


@pytest.mark.parametrize("at", [1, 3, 4, 6])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_run_that_was_stopped_goes_on_as_if_not(bench, interrupting, at, precision):
    """In the first step, an epoch's last, the next one's first, the last of all."""
    bench.run("whole", precision=precision)
    interrupting(at)
    with pytest.raises(Stopped, match=f"stopped after step {at}: .*parts is saved"):
        bench.run("parts", precision=precision)
    assert bench.state("parts").position.step == at
    interrupting(None)
    bench.run("parts", precision=precision)
    assert_same(bench, "parts", "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_scoring_loses_nothing(bench, interrupting, monkeypatch, number):
    monkeypatch.setattr(Interrupting, "number", number)
    bench.run("whole")
    interrupting(-1)
    with pytest.raises(Stopped):
        bench.run("parts")
    assert bench.state("parts").position.batch == 3
    assert bench.lines("parts") == []
    interrupting(None)
    bench.run("parts")
    assert_same(bench, "parts", "whole")


def test_lines_after_the_checkpoint_are_taken_back(bench):
    bench.run("whole")
    bench.run("killed")
    os.replace(bench.folder / "killed/metrics.jsonl", bench.folder / "lines")
    bench.run("killed", fresh=True, config=TinyConfig(epochs=1))
    config = bench.folder / "killed/config.yaml"
    assert "epochs: 1" in config.read_text()
    # As if it had been killed between a line and its checkpoint, or in the midst of a line.
    text = (bench.folder / "lines").read_text() + '{"epoch": 3, "st'
    (bench.folder / "killed/metrics.jsonl").write_text(text)
    bench.run("killed", config=TinyConfig(epochs=1))
    assert len(bench.lines("killed")) == 1


def test_a_run_that_is_done_stays(bench):
    out = bench.run("a")
    before = {p: p.stat().st_mtime_ns for p in (out / "checkpoint.safetensors",)}
    lines = bench.lines("a")
    bench.run("a")
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert bench.lines("a") == lines


def test_scoring_and_saving_leave_training_alone(bench):
    bench.run("a", eval_every=0)
    bench.run("b", eval_every=1, save_every=1, pictures=4, workers=2, tensorboard=True)
    torch.testing.assert_close(bench.state("a").model, bench.state("b").model, rtol=0, atol=0)
    assert "scores" not in bench.lines("a")[-1]
    assert [path.name for path in sorted((bench.folder / "b/pictures").iterdir())] == [
        "00000003.png", "00000006.png",
    ]  # fmt: skip
    assert list((bench.folder / "b/tensorboard").iterdir())


def test_clusters_are_drawn_in_the_colours_of_their_classes(bench):
    """So variants that differ in their clusters' numbers alone look the same."""
    bench.run("a", pictures=2)
    with Image.open(bench.folder / "a/pictures/00000006.png") as picture:
        panels = [np.asarray(picture)[:, x : x + 32] for x in (34, 68)]
    assert (panels[0] == panels[1]).all()
    mapping = np.array([2, -1, 0, -1, 1])  # two clusters without a class
    truth, labels = np.array([[0, 1, 2, -1, 1]]), np.array([[2, 4, 0, -1, 1]])
    sample = Shown(np.full((1, 5, 1), 7, np.uint8), {"v": labels}, truth)
    (row,) = draw([sample], {"v": mapping})
    image, found, true = row[:, :5], row[:, 7:12], row[:, 14:]
    assert (image == 7).all()
    assert (found[0, :4] == true[0, :4]).all()
    assert (true[0, 3] == 0).all()
    assert len(np.unique(np.concatenate([true[0], found[0, 4:]]), axis=0)) == 5


def test_best_is_the_highest_and_last_the_last(bench):
    bench.run("a", TinyConfig(epochs=5, lr=0.3))
    found = [line["scores"]["tiny"] for line in bench.lines("a")]
    accuracies = [each["last"]["accuracy"] for each in found]
    for i, each in enumerate(found):
        assert each["best (oracle)"]["accuracy"] == max(accuracies[: i + 1])
        assert each["best (oracle)"]["epoch"] == np.argmax(accuracies[: i + 1]) + 1
    # Swapping clusters changes no score.
    shifted = [line["scores"]["shifted"]["last"]["accuracy"] for line in bench.lines("a")]
    assert shifted == accuracies


# --- what decides the weights ------------------------------------------------------------------


def test_the_learning_rate_follows_its_schedule(bench, monkeypatch):
    monkeypatch.setattr(Tiny, "lr", lambda self, epoch: 0.1 / (epoch + 1))
    bench.run("a", TinyConfig(sgd=True))
    assert [line["lr"] for line in bench.lines("a")] == [0.1, 0.05]
    assert bench.state("a").optimizer["param_groups"][0]["lr"] == 0.05


def test_clipping_shortens_steps(bench):
    config = TinyConfig(sgd=True, lr=1.0, epochs=1, batch_size=12)
    bench.run("a", config, clip=1e-3, eval_every=0)
    bench.run("start", config, clip=1e-30, eval_every=0)
    moved = [
        value - bench.state("start").model[name]
        for name, value in bench.state("a").model.items()
        if name.endswith(("weight", "bias"))
    ]
    assert float(torch.cat([x.flatten() for x in moved]).norm()) == pytest.approx(1e-3, rel=1e-3)
    assert bench.lines("a")[0]["gradient"] > 1e-2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_is_close(bench, precision):
    bench.run("a")
    bench.run("b", precision=precision)
    weights = [bench.state(out).model["network.0.weight"] for out in "ab"]
    assert weights[1].dtype == torch.float32
    assert not torch.equal(*weights)
    assert bench.lines("b")[-1]["loss"] == pytest.approx(bench.lines("a")[-1]["loss"], abs=0.05)


def test_frozen_statistics_stay(bench):
    bench.run("a", batch_norm="frozen")
    bench.run("b")
    assert not bench.state("a").model["network.1.running_mean"].any()
    assert bench.state("b").model["network.1.running_mean"].any()


def test_compiled_networks_learn_the_same(bench, monkeypatch):
    compiled = []

    def compile_eagerly(module):
        compiled.append(module)
        torch.nn.Module.compile(module, backend="eager")

    monkeypatch.setattr(torch.nn.Sequential, "compile", compile_eagerly, raising=False)
    bench.run("a")
    bench.run("b", compile=True)
    assert len(compiled) == 1
    torch.testing.assert_close(bench.state("a").model, bench.state("b").model)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_parts_that_rest_stay(bench, interrupting, monkeypatch, precision):
    """Also what Adam knows of them; and a run that was stopped knows whose turn it is."""
    rest = lambda self, step: [self.network[3 if step // 2 % 2 == 0 else 0]]  # noqa: E731
    monkeypatch.setattr(Interrupting, "resting", rest)
    bench.run("whole", precision=precision)
    states = []
    for _ in range(5):
        interrupting(1)
        with pytest.raises(Stopped):
            bench.run("parts", precision=precision)
        states.append(bench.state("parts"))
    for step, (old, new) in enumerate(pairwise(states), 1):
        moved = [not torch.equal(old.model[f"network.{i}.weight"], new.model[f"network.{i}.weight"])
                 for i in (0, 3)]  # fmt: skip
        assert moved == ([True, False] if step // 2 % 2 == 0 else [False, True])
    assert [states[-1].optimizer["state"][i]["step"].item() for i in (0, 4)] == [3, 2]
    interrupting(None)
    bench.run("parts", precision=precision)
    assert_same(bench, "parts", "whole")


class Counting(Method):
    """Learns from one pass, without gradient: the class that brightness is nearest to."""

    Config = TinyConfig
    variants = ("counting",)
    gradient = False
    centres: torch.Tensor

    def __init__(self, config, channels, classes):
        super().__init__(config, channels, classes)
        self.register_buffer("centres", torch.zeros(classes))

    def fit(self, batches):
        values = torch.cat([batch.images.mean(1).flatten() for batch in batches])
        self.centres[:] = values.quantile(torch.linspace(0, 1, self.classes))

    def predict(self, batch):
        distance = (batch.images.mean(1, keepdim=True) - self.centres.view(1, -1, 1, 1)).abs()
        return {"counting": distance.argmin(1)}


def test_methods_without_gradient_learn_in_one_pass(bench, monkeypatch):
    monkeypatch.setitem(METHODS, "tiny", Counting)
    bench.run("a", TinyConfig(epochs=7))
    (line,) = bench.lines("a")
    assert line["step"] == 3
    assert line["scores"]["counting"]["last"]["accuracy"] > 0.3
    centres = bench.state("a").model["centres"]
    assert (centres.diff() > 0).all()
    bench.run("a", TinyConfig(epochs=7))
    assert len(bench.lines("a")) == 1


# --- what cannot go on -------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_loss_that_is_not_finite_ends_the_run(bench, precision):
    with pytest.raises(TrainingError) as stop:
        bench.run("a", TinyConfig(nan_at=5), precision=precision)
    assert str(stop.value).startswith("the loss became nan in step 5 (epoch 2, batch 2: ")
    assert str(stop.value).count(", ") == 4
    assert "a holds the last good checkpoint" in str(stop.value)
    state = bench.state("a")
    assert state.position.step == 3
    assert all(value.isfinite().all() for value in state.model.values())


def test_a_gradient_that_is_not_finite_ends_the_run(bench, monkeypatch):
    class Steep(Tiny):
        def loss(self, batch, progress, group=None):
            found = super().loss(batch, progress, group)
            found["loss"] = found["loss"] + (found["loss"].detach() - found["loss"]).sqrt()
            return found

    monkeypatch.setitem(METHODS, "tiny", Steep)
    with pytest.raises(TrainingError, match=r"the gradient became (nan|-?inf) in step 1 "):
        bench.run("a")


def test_a_second_signal_ends_at_once(bench, interrupting, monkeypatch):
    def loss(self, batch, progress, group=None):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError

    monkeypatch.setattr(Interrupting, "loss", loss)
    with pytest.raises(KeyboardInterrupt) as stop:
        bench.run("a")
    assert not isinstance(stop.value, Stopped)


def test_training_on_a_thread(bench):
    """Where signals cannot be caught."""
    failures = []

    def run():
        try:
            bench.run("a", TinyConfig(epochs=1))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failures
    assert len(bench.lines("a")) == 1


def test_other_options_are_refused(bench):
    bench.run("a")
    with pytest.raises(ConfigError, match=r"other options \(`--width` 6 → 7, `--seed` 0 → 1\)"):
        bench.run("a", TinyConfig(width=7), seed=1)
    bench.run("a", eval_every=2, workers=1, save_every=5)
    bench.run("a", TinyConfig(width=7), fresh=True)
    assert len(bench.state("a").model["network.0.bias"]) == 7
    assert json.loads((bench.folder / "a/metrics.jsonl").read_text().splitlines()[0])["epoch"] == 1
    assert len(bench.lines("a")) == 2


def test_a_run_can_be_made_longer_but_not_shorter(bench, monkeypatch):
    loss = Tiny.loss  # without what it plans over the whole run
    monkeypatch.setattr(Tiny, "loss", lambda self, batch, _, group: loss(self, batch, 0.5, group))
    bench.run("long", TinyConfig(epochs=3))
    bench.run("a", TinyConfig(epochs=2))
    bench.run("a", TinyConfig(epochs=3))
    assert [line["epoch"] for line in bench.lines("a")] == [1, 2, 3]
    assert "epochs: 3" in (bench.folder / "a/config.yaml").read_text()
    for name, weight in bench.state("long").model.items():
        assert torch.equal(bench.state("a").model[name], weight)
    with pytest.raises(ConfigError, match=r"`--epochs` 3 → 2"):
        bench.run("a", TinyConfig(epochs=2))


def test_a_folder_is_for_one_process_at_a_time(bench):
    with (
        locked(bench.folder / "a"),
        pytest.raises(ConfigError, match="another process is training"),
    ):
        bench.run("a")
    bench.run("a")


def test_what_overflowed_is_null_in_json(bench, monkeypatch):
    class Overflowing(Tiny):
        def loss(self, batch, progress, group=None):
            found = super().loss(batch, progress, group)
            return {**found, "huge": torch.tensor(float("inf"))}

    monkeypatch.setitem(METHODS, "tiny", Overflowing)
    bench.run("a")
    assert [line["huge"] for line in bench.lines("a")] == [None, None]
