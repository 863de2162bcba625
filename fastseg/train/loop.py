"""The training of every method: `train`, and below it what a run does, in order."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from ..data import Batch, Dataset, count_batches
from ..predict.files import write
from .checkpoint import Position
from .config import TrainConfig, to_yaml
from .labelled import Lessons
from .lock import locked
from .log import Log, Shown, draw, shown
from .profile import profiled
from .ranks import ranks
from .run import Run, open_run, seed_everything
from .score import score, summary
from .signals import stop_requests

__all__ = ["Stopped", "TrainingError", "train"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NAMED = 8  # samples, in a message


class TrainingError(Exception):
    """Training cannot go on; the message says where and why."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM came; the checkpoint holds all that was done, which the message says."""

    def __init__(self, run: Run) -> None:
        super().__init__(
            f"stopped after step {run.at.step}: {run.out} is saved, "
            "and the same command goes on from there"
        )


def train(name: str, config: Any, options: TrainConfig) -> Path:
    """Train a method, or go on where an earlier call with the same configuration stopped.

    The folder of the run gets config.yaml, checkpoint.safetensors, metrics.jsonl with a line for
    each epoch, pictures and TensorBoard's files. Under `torchrun` all ranks share every batch.

    Args:
        name: of the method, a key of `METHODS`.
        config: its `Config`.
        options: all else.

    Returns:
        The folder of the run.

    Raises:
        ConfigError, ValueError, CheckpointError: the run cannot begin, or not go on like this.
        TrainingError: the loss is no longer finite.
        Stopped: Ctrl-C or SIGTERM; the same call goes on.
    """
    with ranks(options.device) as place, stop_requests() as stop, ExitStack() as stack:
        if place.rank == 0:
            stack.enter_context(locked(Path(options.out)))
        run = open_run(name, config, options, place)
        if place.rank == 0:
            write(run.out / "config.yaml", to_yaml(name, options, config).encode())
        if run.method.pseudo and run.at.epoch < run.epochs:
            run.relabel(watched(run, stop, "labelling", train=False))
        tick = stack.enter_context(profiled(run))
        with Log(run.out, run.at, options.tensorboard, quiet=place.rank > 0) as log:
            while run.at.epoch < run.epochs:
                line = learn(run, log, stop, tick) if run.method.gradient else fit(run, stop)
                scores, last = {}, line["epoch"] == run.epochs
                if is_due(run, line["epoch"]) or last:
                    run.save()
                    prepare(run, stop)
                if is_due(run, line["epoch"]):
                    line |= measure(run)
                    scores = evaluate(run, log, stop, last) if run.test.classes else {}
                log.epoch(line, scores, run.epochs)
                run.at = Position(run.at.epoch + 1, 0, run.at.step)
                run.save()
    return run.out


def learn(run: Run, log: Log, stop: Callable[[], bool], tick: Callable[[], None]) -> dict[str, Any]:
    """What is left of an epoch, with a `tick` after each step; gives its line of metrics.jsonl."""
    at, begun = run.at, time.perf_counter() - run.at.seconds
    if at.batch == 0:  # else the state holds what it needs
        seed_everything(run.options.seed, at.step)
        run.method.renew(watched(run, stop, "renewing"))
    run.method.train()
    if run.options.batch_norm == "frozen":
        for norm in (m for m in run.method.modules() if isinstance(m, _BatchNorm)):
            norm.eval()
    lr = run.method.lr(at.epoch)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    todo = run.batches(run.lesson, train=True, first=at.batch)
    for batch in progress(todo, run, f"epoch {at.epoch + 1}/{run.epochs}", run.lesson):
        values, stopping = step(run, batch, stop)
        tick()
        at.batch, at.step, at.seconds = at.batch + 1, at.step + 1, time.perf_counter() - begun
        for name, value in values.items():
            at.totals[name] = at.totals.get(name, 0.0) + value
        log.step(at.step, values)
        if stopping or (run.options.save_every and at.step % run.options.save_every == 0):
            run.save()
        if stopping:
            raise Stopped(run)
    means = {name: total / at.batch for name, total in at.totals.items()}
    pictures = at.batch * min(run.config.batch_size, len(run.lesson))
    return {
        "epoch": at.epoch + 1,
        "step": at.step,
        "lr": lr,
        **means,
        "seconds": at.seconds,
        "pictures_per_second": pictures / at.seconds,
    }


def step(run: Run, batch: Batch, stop: Callable[[], bool]) -> tuple[dict[str, float], bool]:
    """One step; gives what there is to log, and whether any rank was told to stop."""
    options, place, dtype = run.options, run.place, DTYPES[run.options.precision]
    seed_everything(options.seed, run.at.step)
    batch = batch.to(place.device)
    if options.channels_last:
        batch = replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))
    half = torch.autocast(place.device.type, dtype, enabled=dtype != torch.float32)
    with half, resting(run.method.resting(run.at.step)):
        found = run.method.loss(batch, run.at.epoch / run.epochs, place.group)
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(found["loss"]).backward()
    place.average_gradients(run.parameters)
    run.scaler.unscale_(run.optimizer)
    grads = [p.grad for p in run.parameters if p.grad is not None]
    found["gradient"] = torch.nn.utils.get_total_norm(grads)
    # The one wait for the device in a step: nothing may reach the weights that is not finite.
    values = torch.stack([value.detach().double() for value in found.values()]).tolist()
    *values, stopping = place.mean([*values, float(stop())])
    named = dict(zip(found, values, strict=True))
    check_finite(run, batch, named)
    if options.clip is not None:
        torch.nn.utils.clip_grads_with_norm_(run.parameters, options.clip, found["gradient"])
    run.scaler.step(run.optimizer)
    run.scaler.update()
    return named, stopping > 0


@contextmanager
def resting(parts: Iterable[nn.Module]) -> Iterator[None]:
    """What is computed meanwhile has no gradient for the parameters of `parts`, so that they and
    what the optimiser knows of them stay."""
    parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def check_finite(run: Run, batch: Batch, values: dict[str, float]) -> None:
    # In fp16 the gradient may overflow: then the scaler leaves out the step and scales less.
    watched = ("loss",) if run.options.precision == "fp16" else ("loss", "gradient")
    for name in watched:
        if not abs(values[name]) < float("inf"):
            keys = ", ".join(batch.keys[:NAMED])
            more = f" and {len(batch.keys) - NAMED} more" if len(batch.keys) > NAMED else ""
            raise TrainingError(
                f"the {name} became {values[name]} in step {run.at.step + 1} (epoch "
                f"{run.at.epoch + 1}, batch {run.at.batch + 1}: {keys}{more}); "
                f"{run.out} holds the last good checkpoint"
            )


def fit(run: Run, stop: Callable[[], bool]) -> dict[str, Any]:
    """The one pass of a method that follows no gradient, the same on every rank; its line."""
    at, begun = run.at, time.perf_counter()

    def counted() -> Iterator[Batch]:
        for batch in watched(run, stop, "fitting"):
            at.step += 1
            yield batch

    seed_everything(run.options.seed, 0)
    run.method.fit(counted())
    return {"epoch": 1, "step": at.step, "seconds": time.perf_counter() - begun}


def prepare(run: Run, stop: Callable[[], bool]) -> None:
    """What predictions need beyond weights, the same on every rank; training stays as it is."""
    seed_everything(run.options.seed, run.at.step)
    run.method.prepare(watched(run, stop, "preparing"))


def watched(run: Run, stop: Callable[[], bool], what: str, train: bool = True) -> Iterator[Batch]:
    """An epoch's training batches, or all training pictures in order, whole on every rank."""
    data = run.lesson if train else run.data
    todo = run.batches(data, train=train, whole=True)
    for batch in progress(todo, run, what, data, train):
        if stop():
            raise Stopped(run)
        yield batch.to(run.place.device)


def is_due(run: Run, epoch: int) -> bool:
    """Whether to look at the test split after `epoch` epochs."""
    every = run.options.eval_every
    return bool(every and (epoch % every == 0 or epoch == run.epochs))


@torch.no_grad()
def measure(run: Run) -> dict[str, dict[str, float]]:
    """The method's own numbers of the test split, of which every rank sees all."""
    run.method.eval()
    todo = run.batches(run.test, train=False, whole=True)
    found = run.method.measure(batch.to(run.place.device) for batch in todo)
    return {"measures": found} if found else {}


def evaluate(run: Run, log: Log, stop: Callable[[], bool], last: bool) -> dict[str, dict[str, Any]]:
    """Scores of the variants on the test split, and at the `last` of what few labels add; the
    weights and what is to come stay."""
    samples: list[Shown] = []

    def look(batch: Batch, predicted: Any) -> None:
        if stop() and run.place.world == 1:  # ranks could not agree on it here
            raise Stopped(run)
        samples.extend(shown(batch, predicted, run.options.pictures - len(samples)))

    seed_everything(run.options.seed, run.at.step)
    todo = progress(run.batches(run.test, train=False), run, "scoring", run.test, train=False)
    device, group = run.place.device, run.place.group
    lessons = run.lessons() if last else Lessons()
    scores = score(run.method, todo, len(run.test.classes), device, group, look, lessons)
    mappings = {variant: scores[variant].mapping for variant in run.method.variants}
    log.pictures(run.at.step, draw(samples, mappings))
    return {variant: summary(found) for variant, found in scores.items()}


def progress(
    todo: Iterator[Batch], run: Run, what: str, data: Dataset, train: bool = True
) -> Iterator[Batch]:
    """The batches of `data`, under a bar if there is a terminal to see it."""
    total = count_batches(data, run.config.batch_size, train)
    done = run.at.batch if train else 0
    quiet = run.place.rank > 0 or not sys.stderr.isatty()
    return tqdm(
        todo,
        what,
        total,
        initial=done,
        leave=False,
        disable=quiet,
        dynamic_ncols=True,
        unit="batch",
    )
