"""Photographs to measure on, those that scikit-image ships inside its wheel; working on several."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch

SAMPLES = ("astronaut", "coffee", "chelsea", "stereo_motorcycle")
# Windows as (top, left, side): the side a part of the picture's shorter side, the others parts of
# what is left over.
WINDOWS = ((0.5, 0.5, 1.0), (0.2, 0.3, 0.7), (0.8, 0.7, 0.7), (0.4, 0.4, 0.8))


@lru_cache(maxsize=16)
def photographs(count: int, size: int) -> torch.Tensor:
    """`count` square windows of the samples, repeated beyond 16: uint8 (count,3,size,size)."""
    distinct = min(count, len(SAMPLES) * len(WINDOWS))
    windows = [_window(i % len(SAMPLES), i // len(SAMPLES), size) for i in range(distinct)]
    pictures = torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2).contiguous()
    return pictures[torch.arange(count) % distinct]


@lru_cache(maxsize=256)
def _window(sample: int, window: int, size: int) -> np.ndarray:
    from skimage import data
    from skimage.transform import resize

    loaded = getattr(data, SAMPLES[sample])()
    picture = loaded[0] if isinstance(loaded, tuple) else loaded  # of a stereo pair the left
    down, across, part = WINDOWS[window]
    side = round(part * min(picture.shape[:2]))
    top, left = (round(f * (n - side)) for f, n in zip((down, across), picture.shape, strict=False))
    crop = picture[top : top + side, left : left + side]
    return np.rint(resize(crop, (size, size), anti_aliasing=True) * 255).astype(np.uint8)


def image_a_thread(run: Callable[..., torch.Tensor], *batches: torch.Tensor) -> torch.Tensor:
    """`run` on the batches image by image, each thread at one of its own, concatenated.

    It suits plain PyTorch on a CPU, which otherwise splits each small operation among all threads.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # in this thread, and in those it starts
    try:
        with ThreadPoolExecutor(threads) as pool:
            return torch.cat(list(pool.map(run, *(batch.split(1) for batch in batches))))
    finally:
        torch.set_num_threads(threads)
