"""The truncated Gaussian and the filter matrices made of it, shared by every backend."""

from functools import lru_cache

import numpy as np

TABLE_PAD = 16  # in csrc/filter.h too


def gaussian(sigma: float, taps: int) -> np.ndarray:
    """Samples of a Gaussian at −⌊taps/2⌋ … ⌊taps/2⌋, scaled to sum 1: float64 (taps,)."""
    offsets = np.arange(taps) - taps // 2
    with np.errstate(over="ignore"):  # of a tiny sigma only the centre is left
        weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()


@lru_cache(maxsize=64)
def filter_rows(size: int, sigma: float, taps: int, passes: int) -> np.ndarray:
    """The distinct rows of S = Aᵖ, A the zero-padded filter along an axis of `size` pixels.

    Zero padding makes S symmetric but not Toeplitz: the r = p⌊taps/2⌋ rows at either end differ,
    all between are alike. So an axis of 2r+1 pixels shows every row that a longer one has, and
    row i holds S[i, i−r … i+r], zero outside the axis: float64 (min(size, 2r+1), 2r+1).
    `row_of` says which row belongs to which pixel.
    """
    radius = taps // 2 * passes
    length = min(size, 2 * radius + 1)
    band = np.zeros((length, length))
    for offset, weight in enumerate(gaussian(sigma, taps), start=-(taps // 2)):
        band += weight * np.eye(length, k=offset)
    padded = np.pad(np.linalg.matrix_power(band, passes), ((0, 0), (radius, radius)))
    rows = np.stack([padded[i, i : i + 2 * radius + 1] for i in range(length)])
    rows.setflags(write=False)
    return rows


@lru_cache(maxsize=64)
def filter_table(size: int, sigma: float, taps: int, passes: int) -> np.ndarray:
    """`filter_rows` as the C++ kernels read it (csrc/filter.h): 16 zeros before each row, at least
    as many behind: float64 (rows, stride)."""
    rows = filter_rows(size, sigma, taps, passes)
    table = np.pad(rows, ((0, 0), (TABLE_PAD, TABLE_PAD + -rows.shape[1] % TABLE_PAD)))
    table.setflags(write=False)
    return table


def row_of(size: int, radius: int) -> np.ndarray:
    """For each pixel of an axis, which row of `filter_rows` is its own: int32 (size,)."""
    i = np.arange(size, dtype=np.int32)
    if size <= 2 * radius + 1:
        return i
    return np.minimum(i, np.maximum(radius, i - size + 2 * radius + 1)).astype(np.int32)


def least_share(height: int, width: int, sigma: float, taps: int, passes: int) -> int:
    """Half of the smallest K_ij in units of 2⁻²⁹, at least 32 of them for rounding: what csrc/iem.h
    takes for nothing."""
    shares = [filter_rows(size, sigma, taps, passes) for size in (height, width)]
    smallest = np.prod([share[share > 0].min(initial=1) for share in shares])
    return max(32, int(smallest * 2**28))
