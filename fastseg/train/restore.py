"""A run that has been trained: its method to predict with, and its scores."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from ..data import Geometry, batches, count_batches, open_dataset
from ..methods import METHODS
from ..methods.base import Method
from .checkpoint import CHECKPOINT, CheckpointError, Position, load
from .config import ConfigError, TrainConfig, build
from .labelled import learn_from
from .log import read_metrics
from .run import geometry_of, seed_everything
from .score import BEST, LAST, best_of, score, summary

__all__ = ["Trained", "restore", "score_run"]


@dataclass(frozen=True)
class Trained:
    """What a run has left."""

    folder: Path
    name: str  #: of the method
    method: Method  #: in evaluation mode
    config: Any
    options: TrainConfig
    position: Position
    geometry: Geometry  #: of the training
    digest: str  #: tells these weights from others


def restore(folder: str | Path, device: str | torch.device = "cpu") -> Trained:
    """The method of a run, with its last weights.

    Args:
        folder: of the run, or its checkpoint.

    Raises:
        CheckpointError, ConfigError: there is none that this version can read.
    """
    path = Path(folder)
    path = path / CHECKPOINT if path.is_dir() or not path.exists() else path
    found = load(path)
    facts = found.facts
    kind = METHODS.get(facts["method"])
    if kind is None:
        raise CheckpointError(f"{path} is of the method {facts['method']!r}, unknown here")
    config = build(kind.Config, facts["config"])
    method = kind(config, facts["channels"], facts["classes"])
    method.load_state_dict(found.model)
    method.to(device).eval()
    return Trained(
        path.parent,
        facts["method"],
        method,
        config,
        build(TrainConfig, facts["options"]),
        found.position,
        build(Geometry, facts["geometry"]),
        hashlib.sha256(path.read_bytes()).hexdigest()[:8],
    )


def score_run(
    trained: Trained,
    data: str | None = None,
    split: str | None = None,
    *,
    batch_size: int | None = None,
    size: int | tuple[int, int] | None = None,
    workers: int = 0,
    cache: str | None = None,
    match: Sequence[int] = (),
    probe: Sequence[Literal["linear", "mlp"]] = (),
    labelled: int = 100,
    progress: bool = False,
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Score the last weights on a data set, and put the best epoch of training beside them.

    Args:
        data, split, batch_size, size: those of the training if None.
        workers, cache, match, probe, labelled: as in `TrainConfig`; the training pictures are those
            of `data`.
        progress: draw a bar on stderr.

    Returns:
        Rows "last" and, where the run was scored on the same data while it was trained,
        "best (oracle)" of each variant; the names of the classes.

    Raises:
        ConfigError, ValueError: the data cannot be scored by this run.
    """
    options, method = trained.options, trained.method
    same = data in (None, options.data) and split in (None, options.eval_split)
    same = same and size in (None, options.size)
    options = replace(
        options,
        data=data or options.data,
        eval_split=split or options.eval_split,
        size=size or options.size,
        match=tuple(match),
        probe=tuple(probe),
        labelled=labelled,
    )
    test = open_dataset(options.data, options.eval_split)
    if not test.classes:
        raise ConfigError(f"{options.data} has no truth to score against")
    if test.channels != method.channels:
        raise ConfigError(
            f"{options.data} has {test.channels} channels, {trained.folder} takes {method.channels}"
        )
    count = batch_size or trained.config.batch_size
    geometry = geometry_of(test, options, method.multiple)
    regions: dict[str, Any] = {
        "superpixels": method.superpixels,
        "cache": cache or options.cache or trained.folder / "superpixels",
    }
    todo = batches(
        test,
        geometry,
        count,
        seed=options.seed,
        epoch=0,
        workers=workers,
        train=False,
        **regions,
    )
    total = count_batches(test, count, train=False)
    shown = tqdm(todo, "scoring", total, leave=False, disable=not progress, unit="batch")
    seed_everything(options.seed, trained.position.step)
    device = next(iter(method.state_dict().values()), torch.zeros(0)).device
    pictures = open_dataset(options.data, options.split) if match or probe else test
    lessons = learn_from(method, pictures, geometry, options, count, device, **regions)
    scores = score(method, shown, len(test.classes), device, lessons=lessons)
    best = best_of(read_metrics(trained.folder)) if same else {}
    rows = []
    for variant, found in scores.items():
        last = {**summary(found), "epoch": trained.position.epoch}
        rows.append(_row(variant, LAST, last, test.classes))
        if variant in best:
            rows.append(_row(variant, BEST, best[variant], test.classes))
    return rows, tuple(test.classes)


def _row(variant: str, which: str, found: Mapping[str, Any], names: Any) -> dict[str, Any]:
    numbers = {name: found[name] for name in ("accuracy", "miou", "dice", "nmi", "ari")}
    classes = {f"iou {name}": value for name, value in zip(names, found["iou"], strict=True)}
    return {"variant": variant, "weights": which, "epoch": found["epoch"], **numbers, **classes}
