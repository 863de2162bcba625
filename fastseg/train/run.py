"""What a run is made of: its data, its method, and what an earlier call has left of it."""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import Batch, Dataset, Geometry, batches, open_dataset
from ..data.cache import ArrayCache
from ..data.relabelled import Relabelled
from ..methods import METHODS
from ..methods.base import Method
from .checkpoint import CHECKPOINT, Position, load, save, versions
from .config import ConfigError, TrainConfig, build, differences
from .labelled import Lessons, check_lessons, learn_from
from .ranks import Ranks, normalise_over

__all__ = ["Run", "geometry_of", "open_run", "seed_everything"]


@dataclass
class Run:
    """All that a step needs, and where the run stands."""

    place: Ranks
    config: Any  #: of the method
    options: TrainConfig
    data: Dataset
    lesson: Dataset  #: what to learn from: `data`, or those that the method labels itself
    test: Dataset
    geometry: Geometry
    method: Method
    optimizer: torch.optim.Optimizer  #: with nothing to do if the method has no gradient
    scaler: torch.amp.GradScaler
    at: Position
    facts: dict[str, Any]  #: for the checkpoint

    @property
    def epochs(self) -> int:
        return self.config.epochs if self.method.gradient else 1

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [p for p in self.method.parameters() if p.requires_grad]

    @property
    def out(self) -> Path:
        return Path(self.options.out)

    @property
    def cache(self) -> str | Path:
        return self.options.cache or self.out / "superpixels"

    def relabel(self, todo: Iterator[Batch]) -> None:
        """Learn from labels that the method makes; `todo`: all training pictures, in order."""
        with torch.no_grad():
            unseen = (replace(batch, labels=None) for batch in todo)
            labels = self.method.eval().label(unseen, ArrayCache(self.cache))
        self.lesson = Relabelled(self.data, self.geometry, labels)

    def batches(
        self, data: Dataset, train: bool, first: int = 0, whole: bool = False
    ) -> Iterator[Batch]:
        """This rank's shares of the epoch's batches of `data`, or `whole` ones, from `first` on."""
        own = isinstance(data, Relabelled)
        return batches(
            data,
            data.geometry if own else self.geometry,
            self.config.batch_size,
            seed=self.options.seed,
            epoch=self.at.epoch,
            start=first,
            rank=0 if whole else self.place.rank,
            world=1 if whole else self.place.world,
            workers=self.options.workers,
            train=train,
            superpixels=self.method.superpixels[:1] if train else self.method.superpixels,
            cache=self.cache,
            # Where the truth has no class, it may not say to labels of a method's own.
            use_void=self.options.use_void and not self.method.pseudo,
            labels=self.method.supervised or own,
        )

    def lessons(self) -> Lessons:
        """Of the labels that the options let it see after training."""
        return learn_from(
            self.method,
            self.data,
            self.geometry,
            self.options,
            self.config.batch_size,
            self.place.device,
            superpixels=self.method.superpixels,
            cache=self.cache,
        )

    def save(self) -> None:
        """Write the checkpoint."""
        if self.place.rank == 0:
            facts = {**self.facts, "scaler": self.scaler.state_dict()}
            save(self.out / CHECKPOINT, self.method, self.optimizer, self.at, facts)


def open_run(name: str, config: Any, options: TrainConfig, place: Ranks) -> Run:
    """Open the data, make the method, and go to where an earlier call stopped.

    Raises:
        ConfigError, ValueError, CheckpointError: the run cannot begin, or not go on like this.
    """
    data = open_dataset(options.data, options.split)
    test = open_dataset(options.data, options.eval_split)
    classes = options.classes or len(data.classes) or 2 * METHODS[name].binary
    if not classes:
        raise ConfigError(f"`--classes` must be given: {options.data} has no truth to count them")
    seed_everything(options.seed)
    method = METHODS[name](config, data.channels, classes).to(place.device)
    check_lessons(method, data, options)
    if options.batch_norm == "sync" and place.group is not None:
        normalise_over(method, place.group)
    if options.channels_last:
        method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options.compile:
        for network in method.children():
            network.compile()
    geometry = geometry_of(data, options, method.multiple)
    run = Run(
        place,
        config,
        options,
        data,
        data,
        test,
        geometry,
        method,
        method.optimizer() if method.gradient else torch.optim.SGD([torch.zeros(0)]),
        torch.amp.GradScaler(place.device.type, enabled=options.precision == "fp16"),
        Position(),
        {
            "method": name,
            "config": asdict(config),
            "options": asdict(options),
            "channels": data.channels,
            "classes": classes,
            "names": list(data.classes),
            "geometry": asdict(geometry),
            "versions": versions(),
        },
    )
    path = run.out / CHECKPOINT
    if options.fresh:
        path.unlink(missing_ok=True)
    elif path.exists():
        _go_on(run, path)
    return run


def _go_on(run: Run, path: Path) -> None:
    """Take over the checkpoint, which must be of the same run."""
    found = load(path)
    facts = found.facts
    if facts["method"] != run.facts["method"]:
        raise ConfigError(f"{path.parent} is a run of {facts['method']}: choose another `--out`")
    before = build(type(run.config), facts["config"])
    if run.method.gradient and before.epochs < run.epochs:
        before = replace(before, epochs=run.epochs)  # a run may be made longer
    changed = differences(before, run.config)
    changed += differences(build(TrainConfig, facts["options"]), run.options)
    if changed:
        raise ConfigError(
            f"{path.parent} was run with other options ({', '.join(changed)}): choose another "
            "`--out`, or begin anew with `--fresh`"
        )
    run.method.load_state_dict(found.model)
    run.optimizer.load_state_dict(found.optimizer)
    run.scaler.load_state_dict(facts["scaler"])
    run.at = found.position


def seed_everything(*numbers: int) -> None:
    """Start PyTorch's, NumPy's and Python's generators anew, from numbers ≥ 0."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # methods and their libraries may draw from it
    random.seed(seed)


def geometry_of(dataset: Dataset, options: TrainConfig, multiple: int) -> Geometry:
    """The data set's own, but for what the options say, with sides that the method can take.

    Raises:
        ConfigError: it cannot take them.
    """
    given = {name: getattr(options, name) for name in ("size", "scale", "short")}
    given = {name: value for name, value in given.items() if value is not None}
    if given.keys() & {"scale", "short"}:  # they exclude each other
        given = {"scale": 1.0, "short": None} | given
    flip = dataset.geometry.flip and options.flip
    geometry = replace(dataset.geometry, **given, flip=flip, multiple=multiple)
    shape = geometry.shape or ()
    if any(side % multiple for side in shape):
        fits = " ".join(str(side // multiple * multiple or multiple) for side in shape)
        raise ConfigError(
            f"`--size` must be divisible by {multiple} for this method, such as {fits}, got {shape}"
        )
    return geometry
