"""Where the centres start, how far they reach and how large regions may be."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch

INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Seeds:
    """What a kernel needs to know of the centres of each image; K is the most that one has."""

    at: np.ndarray  #: (B,K,2) float32, y and x; NaN beyond an image's last centre
    weight: np.ndarray  #: (B,) float32, of the squared distance in pixels
    reach: np.ndarray  #: (B,2) int32, half the height and width of a centre's window
    sizes: np.ndarray  #: (B,2) int32, fewest and most pixels of a region


def grid(height: int, width: int, points: float) -> list[tuple[int, int]]:
    """(start, step) along y and x of about `points` pixels on a grid as square as may be.

    The definition of `skimage.util.regular_grid` for an image of depth 1.
    """
    if height * width <= points:
        return [(0, 1), (0, 1)]
    step = math.sqrt(height * width / points)
    short, long = sorted((height, width))
    steps = (short, long / points) if short < step else (step, step)
    down, across = steps if height <= width else steps[::-1]
    return [(int(size // 2), round(size)) for size in (down, across)]


def seeds(height: int, width: int, mask: torch.Tensor | None, batch: int, options: dict) -> Seeds:
    """Of each image: from a grid, or by k-means of the mask's pixels."""
    if mask is None:
        (top, down), (left, across) = grid(height, width, options["n_segments"])
        lines = np.mgrid[top:height:down, left:width:across].reshape(2, -1).T
        one = (lines, float(max(down, across)), height * width)
        each = [one] * min(1, batch)
    else:
        each = [mask_seeds(m, options["n_segments"]) for m in mask.cpu().numpy()]
    most = max((len(at) for at, _, _ in each), default=0)
    at = np.full((len(each), most, 2), np.nan, np.float32)
    weight = np.zeros(len(each), np.float32)
    reach = np.ones((len(each), 2), np.int32)
    sizes = np.zeros((len(each), 2), np.int32)
    for i, (points, step, pixels) in enumerate(each):
        count = len(points)
        if not count:
            continue
        at[i, :count] = points
        # The only centre of a mask has no distance to others.
        weight[i] = 1.0 / float(np.float32(step) * np.float32(step)) if step else 0
        reach[i] = [2 * s for _, s in grid(height, width, count)]
        factors = options["min_size_factor"], options["max_size_factor"]
        sizes[i] = [int(min(f * (pixels / count), INT32_MAX)) for f in factors]
    every = [0] * batch if mask is None else list(range(len(each)))
    return Seeds(at[every], weight[every], reach[every], sizes[every])


def mask_seeds(mask: np.ndarray, count: int) -> tuple[np.ndarray, float, int]:
    """maskSLIC's seeds: centres (K,2), how far the next one is, pixels of the mask.

    The distance is a mean along the axis where it is greater. k-means of the mask's pixels, at
    most 100 a centre, from random ones that are always the same
    (Irving, "maskSLIC", arXiv:1606.09518, §2).
    """
    from scipy.cluster.vq import kmeans2
    from scipy.spatial.distance import cdist

    pixels = np.argwhere(mask).astype(float)
    if not len(pixels):
        return pixels, 1.0, 0
    random = np.random.RandomState(123)
    all_of_them = np.arange(len(pixels))
    chosen = np.sort(random.choice(all_of_them, min(count, len(pixels)), replace=False))
    dense = all_of_them
    if len(pixels) > 100 * count:
        dense = np.sort(random.choice(all_of_them, 100 * count, replace=False))
    # Depth is an axis too, as it is there: of zeros.
    spatial = np.pad(pixels, ((0, 0), (1, 0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a centre without pixels stays where it is
        centres, _ = kmeans2(spatial[dense], spatial[chosen], iter=5)
    offsets = np.empty_like(centres)
    for i in range(0, len(centres), 1024):
        distance = cdist(centres[i : i + 1024], centres)
        rows = np.arange(len(distance))
        distance[rows, i + rows] = np.inf
        offsets[i : i + 1024] = abs(centres[i : i + 1024] - centres[distance.argmin(1)])
    return centres[:, 1:], float(offsets.mean(0).max()), len(pixels)
