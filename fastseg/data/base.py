"""What a data set gives, and what a step of training or evaluation gets."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from ..interop import upload
from .geometry import Geometry

__all__ = ["Batch", "DataError", "Dataset", "Sample"]


class DataError(ValueError):
    """A data set is missing or not as it should be; the message says where and what to do."""


class Sample(NamedTuple):
    """A picture of a data set."""

    key: str  #: tells it from the others of its set, and stays the same
    image: np.ndarray  #: (H,W,C) uint8
    labels: (
        np.ndarray | None
    )  #: (H,W) int16: classes from 0, −1 where there is none; None: no truth


class Dataset(ABC):
    """Pictures in a fixed order, read when they are asked for, from any thread or process."""

    classes: Sequence[str]  #: names of the classes in `labels`; empty where there is no truth
    channels: int  #: C
    geometry: Geometry = Geometry()  #: that of the papers; else pictures as they are

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """The sample at 0 ≤ index < len; an error that names the file if it cannot be read."""

    def order(self, random: np.random.Generator) -> np.ndarray:
        """The indices of all samples as an epoch of training goes through them."""
        return random.permutation(len(self))


@dataclass(frozen=True)
class Batch:
    """Samples brought to one size."""

    images: torch.Tensor  #: (B,C,H,W) float32, 0 … 1
    valid: torch.Tensor  #: (B,H,W) bool: the pixels that count in losses
    superpixels: tuple[torch.Tensor, ...]  #: (B,H,W) int32 for each `Method.superpixels`
    seeds: torch.Tensor  #: (B,) int64, for what is random in a sample, whichever rank it is on
    keys: tuple[str, ...]
    labels: torch.Tensor | None = None  #: (B,H,W) int64, −1 for none; never given to a loss
    regions: tuple[int, ...] = ()  #: how many of each superpixels the fullest sample has

    def __post_init__(self) -> None:
        if len(self.regions) != len(self.superpixels):
            # Where the batch is made, that is on the CPU: a GPU would be waited for.
            regions = (int(x.max()) + 1 if x.numel() else 0 for x in self.superpixels)
            object.__setattr__(self, "regions", tuple(regions))

    def to(self, device: torch.device | str) -> "Batch":
        return replace(
            self,
            images=upload(self.images, device),
            valid=upload(self.valid, device),
            superpixels=tuple(upload(x, device) for x in self.superpixels),
            labels=None if self.labels is None else upload(self.labels, device),
        )
