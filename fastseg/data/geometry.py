"""How pictures of any size come to the size of a batch."""

from dataclasses import dataclass
from math import ceil
from typing import cast

import numpy as np
from PIL import Image

from ..checks import check_int, check_ints, check_number

__all__ = ["Geometry", "Window", "resize_image", "resize_labels"]


@dataclass(frozen=True)
class Window:
    """A part of a picture, which may reach beyond its sides, mirrored or not."""

    top: int
    left: int
    size: tuple[int, int]
    mirrored: bool = False

    def cut(self, picture: np.ndarray, fill: int) -> np.ndarray:
        """The part of (H,W) or (H,W,C), `fill` where it lies outside."""
        height, width = self.size
        rows, columns = max(self.top, 0), max(self.left, 0)
        inside = picture[rows : self.top + height, columns : self.left + width]
        if inside.shape[:2] != self.size:
            part = np.full((*self.size, *picture.shape[2:]), fill, picture.dtype)
            rows, columns = rows - self.top, columns - self.left
            part[rows : rows + inside.shape[0], columns : columns + inside.shape[1]] = inside
            inside = part
        return inside[:, ::-1] if self.mirrored else inside


@dataclass(frozen=True)
class Geometry:
    """How pictures of any size come to the size of a batch: first resized, then cut.

    Pictures smaller than the cut get a border on all sides, which is not valid and has no label.

    Args:
        size: (H,W) of the cut, or one number for both: at random in training, from the centre in
            evaluation; None: the whole picture.
        scale: by how much to resize pictures.
        short: instead, to how many pixels to bring the shorter side.
        flip: in training, mirror every other picture, at random.
        multiple: of whole pictures, what the sides of a batch are rounded up to.
    """

    size: tuple[int, int] | int | None = None
    scale: float = 1.0
    short: int | None = None
    flip: bool = True
    multiple: int = 1

    def __post_init__(self) -> None:
        sides = (self.size,) * 2 if isinstance(self.size, int) else self.size
        if sides is not None:
            check_ints("size", sides, 1, 2)
        object.__setattr__(self, "size", sides and tuple(sides))
        check_number("scale", self.scale, 0, exclusive=True)
        if self.short is not None:
            check_int("short", self.short, 1)
            if self.scale != 1:
                raise ValueError(
                    f"`scale` and `short` exclude each other, got {self.scale:g} and {self.short}"
                )
        check_int("multiple", self.multiple, 1)

    @property
    def shape(self) -> tuple[int, int] | None:
        """(H,W) of the cut; None for whole pictures."""
        return None if self.size is None else cast("tuple[int, int]", self.size)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(H,W) of a picture before it is cut."""
        scale = self.short / min(height, width) if self.short else self.scale
        return max(1, round(height * scale)), max(1, round(width * scale))

    def window(self, height: int, width: int, random: np.random.Generator | None) -> Window:
        """What to cut from a resized picture; without `random`, from the centre."""
        cut = self.shape or (height, width)
        spare = height - cut[0], width - cut[1]
        if random is None:
            return Window(spare[0] // 2, spare[1] // 2, cut)
        # Always as many numbers, so that one size of picture does not decide what others get.
        places = random.random(2)
        top, left = (
            int(p * (s + 1)) if s > 0 else s // 2 for p, s in zip(places, spare, strict=True)
        )
        return Window(top, left, cut, mirrored=bool(random.random() < 0.5) and self.flip)

    def rounded(self, side: int) -> int:
        """A side of a batch of whole pictures."""
        return ceil(side / self.multiple) * self.multiple


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H,W,C) uint8 resampled bilinearly, without aliases; every channel is like the others."""
    if image.shape[:2] == (height, width):
        return image
    if image.shape[2] == 3:
        return _resampled(image, height, width)
    # One by one: Pillow would take a fourth for transparency, and weigh the others by it.
    return np.stack([_resampled(channel, height, width) for channel in np.moveaxis(image, 2, 0)], 2)


def _resampled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def resize_labels(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H,W) resampled to the nearest pixel."""
    rows, columns = (
        ((np.arange(new) + 0.5) * (old / new)).astype(np.int64)
        for new, old in zip((height, width), labels.shape, strict=True)
    )
    same = labels.shape == (height, width)
    return labels if same else labels[rows[:, None], columns]
