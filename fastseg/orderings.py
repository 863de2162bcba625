"""The sixteen orderings of a picture's pixels in which AC and ARL see it (Ouali et al.,
"Autoregressive Unsupervised Image Segmentation", ECCV 2020, §3.1, Fig. 2 and 4).

    0       none: every pixel sees all
    1       raster scan: rows from the top, each from the left
    2, 3, 4 ordering 1 turned by 90°, 180° and 270° counterclockwise
    5       ordering 1 mirrored: rows from the top, each from the right
    6, 7, 8 ordering 5 turned by 90°, 180° and 270°
    9       zigzag: diagonals from the top left corner, their direction alternating; (0,0), (0,1),
            (1,0), (2,0), (1,1), (0,2), … as (row, column)
    10 … 16 ordering 9 turned, mirrored, mirrored and turned, as 2 … 8 are of 1

An ordering o of a picture is thus `turn(ranks, o)`, where `ranks` are those of ordering 1 or 9 on a
picture that `turn` gives the right shape. The numbers are the paper's for 1 alone; it shows the
others in figures, without a rule.
"""

from collections.abc import Sequence

import torch

from .checks import check_choice, check_generator, check_int, check_ints

__all__ = [
    "ALL", "RASTER", "SAMPLING", "ZIGZAG", "attention_mask", "check_ordering", "opposite",
    "permutation", "ranks", "sample_pair", "subset", "turn", "turn_back",
]  # fmt: skip

RASTER = tuple(range(1, 9))
ZIGZAG = tuple(range(9, 17))
ALL = RASTER + ZIGZAG
SAMPLING = ("random", "no_repetition", "hard")


def check_ordering(ordering: object, last: int = 16, name: str = "ordering") -> None:
    """`ordering` is an integer from 0 to `last`."""
    check_int(name, ordering, 0)
    if ordering > last:  # type: ignore[operator]
        raise ValueError(f"`{name}` must be an integer from 0 to {last}, got {ordering}")


# --- Symmetries --------------------------------------------------------------------------------


def turn(x: torch.Tensor, ordering: int) -> torch.Tensor:
    """The symmetry of the square that makes `ordering` out of the first of its kind, 1 or 9.

    Args:
        x: (…,H,W), such as a picture, or a filter that sees it in ordering 1.
        ordering: from 0 to 16; 0, 1 and 9 change nothing.

    Returns:
        (…,H,W), or (…,W,H) where `ordering` is even.
    """
    check_ordering(ordering)
    mirrored, quarters = _symmetry(ordering)
    return torch.rot90(x.flip(-1) if mirrored else x, quarters, (-2, -1))


def turn_back(x: torch.Tensor, ordering: int) -> torch.Tensor:
    """The inverse of `turn`: `turn_back(turn(x, ordering), ordering)` is `x`."""
    check_ordering(ordering)
    mirrored, quarters = _symmetry(ordering)
    x = torch.rot90(x, -quarters, (-2, -1))
    return x.flip(-1) if mirrored else x


def _symmetry(ordering: int) -> tuple[bool, int]:
    """Whether it mirrors left and right, and then by how many quarters it turns."""
    return divmod((ordering - 1) % 8, 4) if ordering else (False, 0)  # type: ignore[return-value]


def opposite(ordering: int) -> int:
    """The same scan turned by 180°, which starts where `ordering` ends.

    A raster scan and its opposite share no pixel but the one that looks. So do zigzags where H+W is
    even; where it is odd, both go along a diagonal in the same direction.
    """
    check_ordering(ordering)
    return ((ordering - 1) ^ 2) + 1 if ordering else 0


# --- Orders ------------------------------------------------------------------------------------


def ranks(height: int, width: int, ordering: int) -> torch.Tensor:
    """The place of each pixel in the ordering, from 0.

    Args:
        height, width: H, W ≥ 0, of the picture.
        ordering: from 0 to 16; 0, which orders nothing, counts as 1 here.

    Returns:
        (H,W) int64.
    """
    check_int("height", height, 0)
    check_int("width", width, 0)
    check_ordering(ordering)
    if _symmetry(ordering)[1] % 2:
        height, width = width, height
    first = torch.arange(height * width).view(height, width)
    if ordering in ZIGZAG:
        row, column = torch.arange(height)[:, None], torch.arange(width)
        diagonal = row + column
        along = torch.where(diagonal % 2 == 1, row, column)
        key = (diagonal * max(height, width) + along).flatten()
        first = key.argsort().argsort().view(height, width)
    return turn(first, ordering)


def permutation(height: int, width: int, ordering: int) -> torch.Tensor:
    """The pixels in their order: row·W + column of each, int64 (H·W,). Arguments as of `ranks`."""
    return ranks(height, width, ordering).flatten().argsort()


def attention_mask(height: int, width: int, ordering: int) -> torch.Tensor:
    """Which pixels each may see: those at or before it in the ordering, M of Fig. 5.

    For pictures and tests; `ordered_attention` needs none. Row i, shaped (H,W), is what pixel i
    sees.

    Args:
        height, width: H, W ≥ 0, of the picture.
        ordering: from 0 to 16.

    Returns:
        (H·W,H·W) bool; all True for ordering 0.
    """
    place = ranks(height, width, ordering).flatten()
    if ordering == 0:
        return torch.ones(2 * place.shape, dtype=torch.bool)
    return place[:, None] >= place


# --- Samples -----------------------------------------------------------------------------------


def _draw(count: int, high: int, generator: torch.Generator | None) -> list[int]:
    """`count` different numbers below `high`."""
    check_generator("generator", generator)
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(f"`generator` must be on the cpu, where orderings are chosen, "
                         f"got {generator.device}")  # fmt: skip
    return torch.randperm(high, generator=generator, device="cpu")[:count].tolist()


def subset(
    size: int,
    orderings: Sequence[int] = RASTER,
    opposites: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[int, ...]:
    """A random choice of `size` different orderings, ascending (§4.1, "Orderings": |O| of 2, 4, 8).

    Args:
        size: from 1 to as many as `orderings`; even if `opposites`.
        orderings: to choose from; no repetitions.
        opposites: choose pairs of opposites, as "hard" sampling needs; `orderings` must hold the
            opposite of each.
        generator: on the CPU; PyTorch's own if not given.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    _check_set(orderings, 1, opposites)
    check_int("size", size, 1)
    if size > len(orderings):
        raise ValueError(f"`size` must be at most {len(orderings)}, as many as `orderings`, "
                         f"got {size}")  # fmt: skip
    if not opposites:
        return tuple(sorted(orderings[i] for i in _draw(size, len(orderings), generator)))
    if size % 2:
        raise ValueError(f"`size` must be even for pairs of opposites, got {size}")
    firsts = [ordering for ordering in orderings if ordering < opposite(ordering)]
    chosen = [firsts[i] for i in _draw(size // 2, len(firsts), generator)]
    return tuple(sorted(chosen + [opposite(ordering) for ordering in chosen]))


def sample_pair(
    orderings: Sequence[int] = RASTER,
    sampling: str = "random",
    generator: torch.Generator | None = None,
) -> tuple[int, int]:
    """Two orderings for a training step (§4.1, "Orderings").

    Args:
        orderings: the set O to draw from; no repetitions.
        sampling: "random", one after the other from all of O; "no_repetition", two different ones;
            "hard", one and its `opposite`, which O must then hold too.
        generator: on the CPU, so that nothing waits for a GPU; PyTorch's own if not given.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    check_choice("sampling", sampling, SAMPLING)
    _check_set(orderings, 2 if sampling == "no_repetition" else 1, sampling == "hard")
    if sampling == "no_repetition":
        first, second = _draw(2, len(orderings), generator)
        return orderings[first], orderings[second]
    first = orderings[_draw(1, len(orderings), generator)[0]]
    if sampling == "hard":
        return first, opposite(first)
    return first, orderings[_draw(1, len(orderings), generator)[0]]


def _check_set(orderings: Sequence[int], least: int, opposites: bool) -> None:
    check_ints("orderings", orderings, 1)
    for ordering in orderings:
        check_ordering(ordering, name="orderings")
        if opposites and opposite(ordering) not in orderings:
            raise ValueError(f"`orderings` must hold the opposite of each, got {ordering} without "
                             f"{opposite(ordering)}")  # fmt: skip
    if len(set(orderings)) != len(orderings):
        raise ValueError(f"`orderings` must not repeat any, got {tuple(orderings)}")
    if len(orderings) < least:
        raise ValueError(f"`orderings` must hold at least {least}, got {len(orderings)}")
