"""What the labels of a few training pictures add to scores: clusters matched with classes by them,
and probes of frozen features. No label reaches the method itself."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..data import Batch, Dataset, Geometry, Sample, batches
from ..methods.base import Method
from ..methods.clustering import sample
from ..metrics import SegmentationMetrics
from .config import ConfigError, TrainConfig

__all__ = ["Lessons", "check_lessons", "labelled", "learn_from"]

PIXELS = 500  # of each picture that probes see
HIDDEN = 256
EPOCHS, ROWS, LR = 20, 1024, 1e-3


@dataclass(frozen=True)
class Lessons:
    """What was learnt from labels."""

    #: By the name of the score: a variant, and the class of each of its clusters.
    mappings: Mapping[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    #: By the name of the score: a map from features to classes.
    probes: Mapping[str, nn.Module] = field(default_factory=dict)

    def probe(self, method: Method, batch: Batch) -> dict[str, torch.Tensor]:
        """(B,H,W), the classes that each probe finds."""
        if not self.probes:
            return {}
        features, size = method.features(batch), batch.images.shape[2:]
        return {
            name: F.interpolate(probe(features), size, mode="bilinear").argmax(1)
            for name, probe in self.probes.items()
        }


class _Shuffled(Dataset):
    """The samples in an order of the seed's."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset = dataset
        self.classes, self.channels = dataset.classes, dataset.channels
        self.indices = np.random.default_rng(seed).permutation(len(dataset))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self.indices[index])]


def labelled(
    dataset: Dataset, geometry: Geometry, count: int, seed: int, batch_size: int, **options: Any
) -> Iterator[Batch]:
    """Batches of `count` pictures with labels, which the seed chooses: of more counts the same
    first ones.

    Args:
        options: further ones of `batches`.
    """
    todo = batches(_Shuffled(dataset, seed), geometry, batch_size, seed=seed, epoch=0, train=False,
                   **options)  # fmt: skip
    for batch in todo:
        assert batch.labels is not None
        known = (batch.labels >= 0).flatten(1).any(1).nonzero()[:count, 0]
        count -= len(known)
        if len(known):
            yield _rows(batch, known)
        if not count:
            return


def _rows(batch: Batch, at: torch.Tensor) -> Batch:
    images, valid, seeds = (x[at] for x in (batch.images, batch.valid, batch.seeds))
    labels = None if batch.labels is None else batch.labels[at]
    keys = tuple(batch.keys[i] for i in at.tolist())
    return Batch(images, valid, tuple(x[at] for x in batch.superpixels), seeds, keys, labels)


def check_lessons(method: Method, data: Dataset, options: TrainConfig) -> None:
    """What `learn_from` needs is there.

    Raises:
        ConfigError: the pictures have no labels, or the method no features.
    """
    if (options.match or options.probe) and not data.classes:
        raise ConfigError(f"`--match` and `--probe` need labels: {options.data} has none")
    if options.probe and type(method).features is Method.features:
        raise ConfigError(f"`--probe` needs features: {type(method).__name__} has none")


@torch.no_grad()
def learn_from(
    method: Method,
    data: Dataset,
    geometry: Geometry,
    options: TrainConfig,
    batch_size: int,
    device: torch.device,
    **further: Any,
) -> Lessons:
    """Match clusters (`options.match`) and train probes (`options.probe`) as the options say.

    Args:
        data: the training pictures, with labels.
        further: options of `batches`.

    Raises:
        ConfigError: there are no labels or features for it, or too few labels.
    """
    check_lessons(method, data, options)

    def few(count: int) -> Iterator[Batch]:
        todo = labelled(data, geometry, count, options.seed, batch_size, **further)
        return (batch.to(device) for batch in todo)

    training = method.training
    method.eval()
    try:
        mappings = _match(method, few(max(options.match, default=0)), data, options.match)
        return Lessons(mappings, _probes(method, few(options.labelled), data, options))
    finally:
        method.train(training)


def _match(
    method: Method, batches: Iterable[Batch], data: Dataset, counts: Sequence[int]
) -> dict[str, tuple[str, np.ndarray]]:
    """Each cluster's most frequent class in so many pictures, or all if there are fewer."""
    if not counts:
        return {}
    sizes = method.clusters, len(data.classes), "many_to_one"
    metrics = {variant: SegmentationMetrics(*sizes) for variant in method.variants}
    mappings: dict[str, tuple[str, np.ndarray]] = {}
    seen = 0

    def keep() -> None:
        for variant, counter in metrics.items():
            mappings[f"{variant}, {seen} labelled"] = variant, counter.compute().mapping

    for batch in batches:
        predicted = method.predict(batch)
        assert batch.labels is not None
        for i in range(len(batch.images)):
            seen += 1
            for variant, counter in metrics.items():
                counter.update(predicted[variant][i], batch.labels[i])
            if seen in counts:
                keep()
    if seen < max(counts):
        keep()
    return mappings


def _probes(
    method: Method, batches: Iterable[Batch], data: Dataset, options: TrainConfig
) -> dict[str, nn.Module]:
    if not options.probe:
        return {}
    x, labels = sample(method.features, batches, PIXELS, options.labelled)
    return {f"{kind} probe": _probe(kind, x, labels, len(data.classes)) for kind in options.probe}


@torch.enable_grad()
def _probe(kind: str, x: torch.Tensor, labels: torch.Tensor, classes: int) -> nn.Module:
    """Trained on features (N,D) and their labels (N,), in a random order of PyTorch's generator."""
    depth = x.shape[1]
    layers: list[nn.Module] = [nn.Conv2d(depth, classes, 1)]
    if kind == "mlp":
        layers = [nn.Conv2d(depth, HIDDEN, 1), nn.ReLU(), nn.Conv2d(HIDDEN, classes, 1)]
    # Features of all methods on one scale.
    probe = nn.Sequential(nn.BatchNorm2d(depth, affine=False, momentum=None), *layers).to(x.device)
    optimizer = torch.optim.Adam(probe.parameters(), LR)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x)).to(x.device)
        for rows in order.split(ROWS):
            loss = F.cross_entropy(probe(x[rows, :, None, None])[..., 0, 0], labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return probe.eval()
