"""K-means of pixels' features."""

from collections.abc import Callable, Iterable, Iterator

import torch

from ..data.base import Batch
from .views import uniform

__all__ = ["closeness", "k_means", "sample", "whitening"]

SAMPLE = 9  # the stream of the pixels that are sampled


def sample(
    features: Callable[[Batch], torch.Tensor],
    batches: Iterable[Batch],
    pixels: int,
    limit: int,
    least: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,D), (N,): features of valid pixels at random, by each picture's seed, and their labels, −1
    where there are none.

    Args:
        features: of a batch: (B,D,h,w), the whole pictures in as many pixels or fewer.
        pixels: from each picture.
        limit: pictures, at most.
        least: N, at least.

    Raises:
        ValueError: there are fewer valid pixels.
    """
    rows = list(_rows(features, batches, pixels, limit))
    if (count := sum(len(row) for row, _ in rows)) < least:
        raise ValueError(f"`batches` must have at least {least} valid pixels, got {count}")
    found, labels = zip(*rows, strict=True)
    return torch.cat(found), torch.cat(labels)


def _rows(
    features: Callable[[Batch], torch.Tensor], batches: Iterable[Batch], pixels: int, left: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in batches:
        maps = features(batch).movedim(1, -1)
        labels = torch.full_like(batch.valid, -1, dtype=torch.int64)
        labels = labels if batch.labels is None else batch.labels
        places = (uniform(batch.seeds, pixels, SAMPLE) + 1) / 2
        height, width = batch.valid.shape[1:]
        rows, columns = maps.shape[1:3]
        for i in range(min(left, len(maps))):
            y, x = batch.valid[i].nonzero(as_tuple=True)
            if len(y):
                at = (places[i] * len(y)).long().clamp(max=len(y) - 1).to(y.device)
                y, x = y[at], x[at]
                yield maps[i, y * rows // height, x * columns // width], labels[i, y, x]
        left -= len(maps)
        if left <= 0:
            return


def k_means(x: torch.Tensor, count: int, restarts: int) -> torch.Tensor:
    """(N,D) → (count,D), the centres; scikit-learn's MiniBatchKMeans.

    Args:
        restarts: the best of which is kept.

    Raises:
        ImportError: there is no scikit-learn.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError as error:
        raise ImportError("K-means needs scikit-learn: pip install 'fastseg[train]'") from error
    found = MiniBatchKMeans(count, n_init=restarts, random_state=0).fit(x.cpu().numpy())
    return torch.from_numpy(found.cluster_centers_).to(x)


def closeness(features: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """(B,D,H,W), (K,D) → (B,K,H,W): ⟨c,x⟩ − ½|c|², the larger the nearer."""
    half = centres.square().sum(1)[:, None, None] / 2
    return torch.einsum("kc,bchw->bkhw", centres, features) - half


def whitening(x: torch.Tensor, components: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of features (N,D) the mean (D,) and a matrix (D,M), M ≤ D: (x − mean) @ matrix has variance 1
    along the `components` directions of the largest variance."""
    x = x.double()
    mean, (values, vectors) = x.mean(0), torch.linalg.eigh(x.T.cov(correction=0))
    # Of the largest variances; below rounding there is nothing to whiten.
    values, vectors = values[-components:], vectors[:, -components:]
    return mean, vectors / values.clamp(min=1e-6 * values[-1]).sqrt()
