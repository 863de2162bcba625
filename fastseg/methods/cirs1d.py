"""The one-dimensional proof of the thesis on CIRS (`cirs`), §4 and §12.1: rows of integers in which
0 is the background, cut into segments, exhaustively and exactly.

A segment is the locations of its cells, in order; a segmentation of a row is its segments, the
background, cells of 0 alone and not necessarily connected, last. Segments of one index belong
together in all rows.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations, pairwise

__all__ = [
    "color_segmentation",
    "cross_instance_segmentation",
    "frequent_patterns",
    "pattern_counts",
    "pattern_segmentation",
    "segmentations",
]

Row = Sequence[int]
Segment = tuple[int, ...]
Segmentation = tuple[Segment, ...]


def segmentations(row: Row) -> Iterator[Segmentation]:
    """Every way to cut a row into connected segments, where those of 0 alone are the background."""
    length = len(row)
    for count in range(length):
        for cuts in combinations(range(1, length), count):
            ends = (0, *cuts, length)
            pieces = [tuple(range(a, b)) for a, b in pairwise(ends)]
            objects = [piece for piece in pieces if any(row[j] for j in piece)]
            background = tuple(j for piece in pieces if piece not in objects for j in piece)
            yield (*objects, background) if background else tuple(objects)


def _size(segmentation: Segmentation) -> Fraction:
    """Σ_k J(k)/K, the mean size of a segment."""
    return Fraction(sum(map(len, segmentation)), len(segmentation))


def _values(row: Row, segment: Segment) -> tuple[int, ...]:
    return tuple(row[j] for j in segment)


def color_segmentation(row: Row) -> Segmentation:
    """The largest segments, in the mean, in which no colour varies (§4.1): Σ_k var(S_k) = 0.

    What varies is ruled out, as in the thesis' examples, and not weighed against size. Of equally
    large ones the first in the order of `segmentations`.
    """
    even = (each for each in segmentations(row) if all(len({*_values(row, s)}) == 1 for s in each))
    return max(even, key=_size)


def cross_instance_segmentation(rows: Sequence[Row]) -> list[Segmentation]:
    """The largest segments, in the mean, whose aligned cells do not vary between rows (§4.2).

    Every row then has segments of the same values, so of each row's segmentations only those values
    need be kept that all rows have: the search stays exhaustive, and its time linear in the rows.
    Of equally large ones the one with the smallest values.

    Raises:
        ValueError: no row is given, or there are no such segments.
    """
    if not rows:
        raise ValueError("`rows` must hold at least one row, got none")
    found = [_by_values(row) for row in rows]
    shared = set.intersection(*map(set, found))
    if not shared:
        raise ValueError("`rows` must all have the same cells, in some order, got others")
    # Fewest segments are the largest in the mean.
    best = min(shared, key=lambda values: (len(values), values))
    return [ways[best] for ways in found]


def _by_values(row: Row) -> dict[tuple[tuple[int, ...], ...], Segmentation]:
    """A segmentation for each collection of segments' values that the row can be cut into, its
    segments sorted by their values, the background last."""
    ways: dict[tuple[tuple[int, ...], ...], Segmentation] = {}
    for each in segmentations(row):
        ordered = sorted(each, key=lambda s: (not any(_values(row, s)), _values(row, s)))
        ways.setdefault(tuple(_values(row, s) for s in ordered), tuple(ordered))
    return ways


# --- The procedure of §12.1 --------------------------------------------------------------------


def pattern_counts(rows: Sequence[Row]) -> Counter[tuple[int, ...]]:
    """Of every pattern of connected cells, how many rows it appears in (steps 1, 2)."""
    return Counter(pattern for row in rows for pattern in _patterns(row))


def _patterns(row: Row) -> dict[tuple[int, ...], Segment]:
    """The patterns in a row, and where each appears first."""
    found: dict[tuple[int, ...], Segment] = {}
    for size in range(1, len(row) + 1):
        for start in range(len(row) - size + 1):
            place = tuple(range(start, start + size))
            found.setdefault(_values(row, place), place)
    return found


def frequent_patterns(rows: Sequence[Row]) -> list[tuple[int, ...]]:
    """The objects: again and again the most frequent pattern, of several the largest, and then the
    first to appear, is taken out of every row, until background is all that is left (steps 3–5)."""
    return _take_out(rows)[0]


def pattern_segmentation(rows: Sequence[Row]) -> list[Segmentation]:
    """Each row's segments by `frequent_patterns`, () where a row lacks one, and its background."""
    return _take_out(rows)[1]


def _take_out(rows: Sequence[Row]) -> tuple[list[tuple[int, ...]], list[Segmentation]]:
    left = [list(row) for row in rows]
    patterns: list[tuple[int, ...]] = []
    places: list[list[Segment]] = [[] for _ in rows]
    while any(map(any, left)):
        counts = pattern_counts(left)
        pattern = max(filter(any, counts), key=lambda p: (counts[p], len(p)))
        patterns.append(pattern)
        for cells, segments in zip(left, places, strict=True):
            place = _patterns(cells).get(pattern, ())
            segments.append(tuple(j for j in place if cells[j]))
            for j in place:
                cells[j] = 0
    for row, segments in zip(rows, places, strict=True):
        taken = {j for segment in segments for j in segment}
        segments.append(tuple(j for j in range(len(row)) if j not in taken))
    return patterns, [tuple(segments) for segments in places]
