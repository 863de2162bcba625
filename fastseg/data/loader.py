"""From samples to batches, the same ones whatever the number of workers or ranks."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import torch

from ..checks import check_int
from .base import Batch, DataError, Dataset
from .geometry import Geometry, resize_image, resize_labels
from .superpixels import SuperpixelCache, dense

__all__ = ["batches", "count_batches"]

Indices = Sequence[int]


def count_batches(dataset: Dataset, batch_size: int, train: bool = True) -> int:
    """Number of batches of an epoch: see `batches`."""
    check_int("batch_size", batch_size, 1)
    if not train:
        return -(-len(dataset) // batch_size)
    return max(len(dataset) // batch_size, min(len(dataset), 1))


def batches(
    dataset: Dataset,
    geometry: Geometry,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    train: bool = True,
    superpixels: Sequence[Mapping[str, Any]] = (),
    cache: str | Path | None = None,
    use_void: bool = True,
    labels: bool = False,
) -> Iterator[Batch]:
    """The batches of an epoch: a function of the arguments, whatever `workers` is.

    In training, samples come in an order that `seed` and `epoch` decide, and what fills no whole
    batch is left out, unless it is all there is. In evaluation they come in their own order and all
    of them; the last batch may be smaller. What is random in a sample depends on `seed`, `epoch`
    and its place in the data set alone.

    Args:
        batch_size: samples in a batch, of all ranks together.
        start: batches to pass over, which costs nothing.
        rank: which of `world` equal shares of every batch to make; in evaluation shares may differ
            by one, and a rank gets no batch where its share is empty.
        workers: threads that make batches ahead, each a whole one; 0: the caller's.
        train: random cuts in random order, else central ones in order.
        superpixels: arguments of `fastseg.slic` for each of `Batch.superpixels`. `n_segments` is
            that of a picture as large as the cut; whole ones are segmented into as many more as
            they are larger, then cut and renumbered from 0. −1 is where the picture ends.
        cache: folder to keep superpixels in; None: they are computed every time.
        use_void: whether pixels without a class are not valid, where a picture has labels.
        labels: give training batches labels too. Unsupervised methods never see them.

    Raises:
        TypeError, ValueError: an argument is not as above.
        DataError: a sample cannot be read, or has other channels than the set says.
    """
    check_int("batch_size", batch_size, 1)
    for name, value in {"seed": seed, "epoch": epoch, "start": start, "workers": workers}.items():
        check_int(name, value, 0)
    check_int("world", world, 1)
    check_int("rank", rank, 0)
    if rank >= world:
        raise ValueError(f"`rank` must be less than `world`, got {rank} of {world}")
    if train and batch_size % world:
        raise ValueError(f"`batch_size` must be a multiple of `world`, got {batch_size} of {world}")
    shares = _shares(dataset, batch_size, seed, epoch, start, rank, world, train)
    options = _Options(seed, epoch, train, tuple(superpixels), use_void, labels or not train)
    maker = _Maker(dataset, geometry, options, SuperpixelCache(cache))
    return map(maker, shares) if not workers else _ahead(maker, shares, workers)


def _shares(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int,
    rank: int,
    world: int,
    train: bool,
) -> Iterator[Indices]:
    """The samples of a rank in every batch."""
    count = len(dataset)
    order: Sequence[int] | np.ndarray = range(count)
    if train:
        order = dataset.order(np.random.default_rng((seed, epoch)))
        batch_size = min(batch_size, count // world * world)
        if not batch_size:
            raise DataError(f"{world} ranks need as many samples, the data set has {count}")
        count -= count % batch_size

    def part(first: int) -> Indices:
        whole = order[first : min(first + batch_size, count)]
        here, there = (len(whole) * r // world for r in (rank, rank + 1))
        return [int(index) for index in whole[here:there]]

    return filter(None, map(part, range(start * batch_size, count, batch_size)))


def _ahead(maker: "_Maker", shares: Iterable[Indices], workers: int) -> Iterator[Batch]:
    """Batches in order, `workers` in the making and as many waiting."""
    pool, stop = ThreadPoolExecutor(workers, "fastseg-batches"), Event()
    waiting: deque[Future[Batch]] = deque()
    try:
        for share in shares:
            waiting.append(pool.submit(maker, share, stop))
            if len(waiting) == 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # After an error, Ctrl-C or the loss of interest: an exit waits for no more than a sample.
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Options:
    seed: int
    epoch: int
    train: bool
    superpixels: tuple[Mapping[str, Any], ...]
    use_void: bool
    labels: bool


class _Part(NamedTuple):
    """A sample brought to the size of the cut."""

    key: str
    seed: int
    image: np.ndarray
    valid: np.ndarray
    labels: np.ndarray
    superpixels: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class _Maker:
    """Makes a batch of the samples at some indices."""

    dataset: Dataset
    geometry: Geometry
    options: _Options
    cache: SuperpixelCache

    def __call__(self, indices: Indices, stop: Event | None = None) -> Batch:
        parts = []
        for index in indices:
            if stop is not None and stop.is_set():
                raise CancelledError
            parts.append(self._part(index))
        shape = self.geometry.shape or tuple(
            self.geometry.rounded(max(part.valid.shape[axis] for part in parts)) for axis in (0, 1)
        )
        # By NumPy throughout: PyTorch would start threads of its own on each of the workers.
        images = np.zeros((len(parts), self.dataset.channels, *shape), np.float32)
        for i, (pixels, (height, width)) in enumerate((p.image, p.valid.shape) for p in parts):
            np.divide(pixels.transpose(2, 0, 1), np.float32(255), out=images[i, :, :height, :width])
        labels = None
        if self.options.labels and self.dataset.classes:
            labels = _stack([part.labels.astype(np.int64) for part in parts], shape, -1)
        superpixels = list(zip(*(part.superpixels for part in parts), strict=True))
        return Batch(
            torch.from_numpy(images),
            _stack([part.valid for part in parts], shape, False),
            tuple(_stack(maps, shape, -1) for maps in superpixels),
            torch.tensor([part.seed for part in parts]),
            tuple(part.key for part in parts),
            labels,
            tuple(max(int(labels.max(initial=-1)) for labels in maps) + 1 for maps in superpixels),
        )

    def _part(self, index: int) -> _Part:
        key, image, labels = self.dataset[index]
        if image.ndim != 3 or image.shape[2] != self.dataset.channels:
            raise DataError(
                f"{key} must have {self.dataset.channels} channels, got shape {image.shape}"
            )
        if labels is not None and labels.shape != image.shape[:2]:
            raise DataError(f"{key} is {image.shape[:2]}, its labels are {labels.shape}")
        # From 1, as (seed, epoch, 0) and (seed, epoch), which the order is from, are the same.
        random = np.random.default_rng((self.options.seed, self.options.epoch, 1 + index))
        seed = int(random.integers(2**63))
        size = self.geometry.resized(*image.shape[:2])
        image = resize_image(image, *size)
        window = self.geometry.window(*size, random if self.options.train else None)
        valid = window.cut(np.ones(size, bool), False)
        if labels is None:
            known = np.full(valid.shape, -1, np.int16)
        else:
            known = window.cut(resize_labels(labels, *size), -1)
            valid = valid & (known >= 0) if self.options.use_void else valid
        regions = (self._superpixels(image, each) for each in self.options.superpixels)
        maps = tuple(dense(window.cut(whole, -1)) for whole in regions)
        return _Part(key, seed, window.cut(image, 0), valid, known, maps)

    def _superpixels(self, image: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
        """Of the whole picture, as dense as `n_segments` are in a cut."""
        height, width = self.geometry.shape or image.shape[:2]
        share = image.shape[0] * image.shape[1] / (height * width)
        count = max(1, round(parameters.get("n_segments", 100) * share))
        return self.cache(image, {**parameters, "n_segments": count})


def _stack(arrays: Sequence[np.ndarray], shape: Sequence[int], fill: int) -> torch.Tensor:
    """One tensor of them all, each at the top left, `fill` beside and below."""
    out = np.full((len(arrays), *shape), fill, arrays[0].dtype)
    for i, array in enumerate(arrays):
        out[i, : array.shape[0], : array.shape[1]] = array
    return torch.from_numpy(out)
