"""What the training loop, evaluation and prediction know of a method."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ..data.base import Batch
from ..data.cache import ArrayCache

__all__ = ["Method"]


class Method(nn.Module, ABC):
    """A paper: its networks, its loss, its predictions.

    Args:
        config: an instance of `Config`, whose fields are the command's flags.
        channels: C, of the images.
        classes: number of classes that the data is known to have: N_gt.
    """

    Config: ClassVar[type]  #: a frozen dataclass; it has `lr`, `batch_size` and `epochs` at least
    variants: tuple[str, ...]  #: ways to predict, the main one first
    matching: str = "one_to_one"  #: of clusters with classes, in evaluation
    supervised: ClassVar[bool] = False  #: whether its loss sees labels: only of the upper bound
    pseudo: ClassVar[bool] = False  #: whether its loss sees labels of its own, from `label`
    binary: ClassVar[bool] = False  #: whether its clusters are background and foreground
    gradient: ClassVar[bool] = True  #: whether it learns by `loss`; else by `fit`

    multiple: int = 1  #: what both sides of the images must be divisible by

    def __init__(self, config: Any, channels: int, classes: int) -> None:
        super().__init__()
        self.config, self.channels, self.classes = config, channels, classes

    @property
    def superpixels(self) -> Sequence[Mapping[str, Any]]:
        """Arguments of `slic` for each of `Batch.superpixels`; the first are those of training."""
        return ()

    @property
    def clusters(self) -> int:
        """Number of clusters that `predict` tells apart."""
        return 2 if self.binary else self.classes

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """The loss, "loss", and the scalars to log beside it.

        Args:
            batch: its superpixels are of the first of `superpixels` only.
            progress: epochs done ÷ epochs, 0 … 1.
            group: the ranks that share the batch, as in `class_entropies`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def resting(self, step: int) -> Iterable[nn.Module]:
        """The parts whose parameters stay as they are in step 0, 1, … of training."""
        return ()

    def label(self, batches: Iterable[Batch], cache: ArrayCache) -> dict[int, np.ndarray]:
        """The labels that a method with `pseudo` learns from: (H,W) int8 by a picture's place in
        the data set, −1 for none. Pictures that are not in it are not learnt from.

        Called before the first step, like `predict`, with all training pictures in their order and
        as evaluation sees them, and again when a run goes on.
        """
        raise NotImplementedError(f"{type(self).__name__} makes no labels")

    def renew(self, batches: Iterable[Batch]) -> None:
        """What `loss` needs of the weights that an epoch begins with, kept in the state: called
        before its first step, with training batches, as many as it likes to take."""

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learn from one pass over the data, where there is no gradient to follow."""
        raise NotImplementedError(f"{type(self).__name__} learns by its loss")

    def prepare(self, batches: Iterable[Batch]) -> None:
        """What predictions need beyond the weights that `loss` has found: called before scoring and
        at the end of training, with training batches, as many as it likes to take."""

    def features(self, batch: Batch) -> torch.Tensor:
        """(B,D,h,w), what `predict` is made from, for probes: the pictures in as many pixels or
        fewer. Called in evaluation mode and without gradients."""
        raise NotImplementedError(f"{type(self).__name__} has no features")

    def measure(self, batches: Iterable[Batch]) -> dict[str, float]:
        """What else to tell of the test split, all of it, beside the scores of `predict`.

        Called like `predict`.
        """
        return {}

    @abstractmethod
    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        """(B,H,W) int64, the cluster of each pixel, for each of `variants`.

        Called in evaluation mode and without gradients.

        Args:
            batch: it has all of `superpixels`.
        """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The main variant's clusters of whole pictures (B,C,H,W) of values 0 … 1: (B,H,W) int64.

        For `torch.export` and users' own programs.

        Raises:
            ValueError: the method needs superpixels beside pictures.
        """
        if self.superpixels:
            raise ValueError(f"{type(self).__name__} sees superpixels too: use `predict`")
        count, _, height, width = images.shape
        valid = torch.ones(count, height, width, dtype=torch.bool, device=images.device)
        seeds = torch.zeros(count, dtype=torch.int64)
        return self.predict(Batch(images, valid, (), seeds, ()))[self.variants[0]]

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.config.lr, fused=True)

    def lr(self, epoch: int) -> float:
        """The learning rate in epoch 0, 1, …; a configuration with `decay` makes it less."""
        return self.config.lr * getattr(self.config, "decay", 1.0) ** epoch
