"""Random second views of pictures, each sample's from its own seed, whichever batch it is in.

`seeds` are (B,) int64 on the CPU, as `Batch.seeds`; `stream` tells apart what is drawn from one.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F

from ..interop import constant, upload

__all__ = [
    "flip",
    "gaussian",
    "jitter",
    "quarter_turn",
    "random_affine",
    "sobel",
    "uniform",
    "warp",
    "warp_labels",
]

GREY = (0.299, 0.587, 0.114)
CROSS = ((0, -1, 1), (1, 0, -1), (-1, 1, 0))  # product with (1,1,1)
SOBEL = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
AFFINE, JITTER, FLIP, NOISE, TURN = range(1, 6)  # streams


def _generators(
    seeds: torch.Tensor, stream: int, device: torch.device | str = "cpu"
) -> Iterator[torch.Generator]:
    generator = torch.Generator(device)
    for seed in seeds.tolist():
        # Spread over the low 32 bits, which are all that a CPU generator takes.
        mixed = ((seed & 0xFFFFFFFF) * 0x9E3779B1 + stream * 0x85EBCA77) & 0xFFFFFFFF
        yield generator.manual_seed(mixed)


def uniform(seeds: torch.Tensor, count: int, stream: int) -> torch.Tensor:
    """(B,count) in −1 … 1."""
    rows = [torch.rand(count, generator=g) for g in _generators(seeds, stream)]
    return torch.stack(rows) * 2 - 1 if rows else torch.empty(0, count)


def gaussian(seeds: torch.Tensor, like: torch.Tensor, stream: int = NOISE) -> torch.Tensor:
    """Of the shape (B,…) and device of `like`, from N(0,1)."""
    out = torch.empty_like(like, memory_format=torch.contiguous_format)
    for row, generator in zip(out, _generators(seeds, stream, like.device), strict=True):
        row.normal_(generator=generator)
    return out


# --- Geometry ----------------------------------------------------------------------------------


def random_affine(
    seeds: torch.Tensor,
    size: Sequence[int],
    scale: float = 0.2,
    translate: float = 0.1,
    rotate: float = 10.0,
    shear: float = 10.0,
    stream: int = AFFINE,
) -> torch.Tensor:
    """Where the pixels of a transformed picture come from: (B,2,3), as `affine_grid` takes it.

    Args:
        size: (H,W) of the picture, about whose middle it is scaled, rotated and sheared.
        scale: by a factor from 1/(1+scale) to 1+scale, even in its logarithm.
        translate: by up to this share of height and width, either way.
        rotate, shear: by up to so many degrees, either way.
    """
    height, width = size
    zoom, angle, slant, down, right = uniform(seeds, 5, stream).double().unbind(1)
    zoom = (zoom * math.log1p(scale)).exp()
    angle, slant = angle * math.radians(rotate), (slant * math.radians(shear)).tan()
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    # Coordinates of the grid go from −1 to 1 along either side.
    aspect = height / width
    rows = (
        torch.stack((cos, (cos * slant - sin) * aspect, 2 * translate * right), 1),
        torch.stack((sin / aspect, sin * slant + cos, 2 * translate * down), 1),
    )
    return torch.stack(rows, 1).float()


def warp(images: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """(B,C,H,W) transformed, bilinearly, mirrored at the borders."""
    affine = upload(affine, images.device).to(images.dtype)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def warp_labels(labels: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Integers (B,H,W), at least −1, transformed alike: the nearest, −1 beyond the borders."""
    shifted = labels[:, None].double() + 1
    affine = upload(affine, labels.device).double()
    grid = F.affine_grid(affine, list(shifted.shape), align_corners=False)
    moved = F.grid_sample(shifted, grid, mode="nearest", align_corners=False)[:, 0] - 1
    return moved.to(labels.dtype)


def flip(x: torch.Tensor, seeds: torch.Tensor, p: float = 0.5, stream: int = FLIP) -> torch.Tensor:
    """(B,…,W) mirrored left to right in a share `p` of samples; again undoes it."""
    mirrored = upload(uniform(seeds, 1, stream) < 2 * p - 1, x.device)
    return torch.where(mirrored.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)


def quarter_turn(
    x: torch.Tensor, seeds: torch.Tensor, back: bool = False, stream: int = TURN
) -> torch.Tensor:
    """(B,…,N,N) turned by 0°, 90°, 180° or 270°, or `back` again.

    Raises:
        ValueError: `x` is not square.
    """
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(f"`x` must be square to be turned, got {x.shape[-2]}×{x.shape[-1]}")
    quarters = upload((2 * uniform(seeds, 1, stream) + 2).long(), x.device)
    quarters = quarters.view(-1, *[1] * (x.ndim - 1))
    for turns in (1, 2):
        turned = torch.rot90(x, -turns if back else turns, (-2, -1))
        x = torch.where((quarters & turns).bool(), turned, x)
    return x


# --- Colour ------------------------------------------------------------------------------------


def jitter(
    images: torch.Tensor,
    seeds: torch.Tensor,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.125,
    stream: int = JITTER,
) -> torch.Tensor:
    """Other colours for pictures of values 0 … 1, all of a sample by one affine map, cut to 0 … 1.

    Of more than three channels the first three are colours and the others stay; of fewer, all are
    shades, with neither saturation nor hue.

    Args:
        images: (B,C,H,W).
        brightness: times 1 ± brightness.
        contrast: distance from the picture's mean grey, times 1 ± contrast.
        saturation: distance from each pixel's grey, times 1 ± saturation.
        hue: turned about the grey axis by up to this share of a full turn, either way.
    """
    share = upload(uniform(seeds, 4, stream), images.device).to(images.dtype)
    bright, contrasty, saturated = (
        1 + share[:, i, None, None] * most
        for i, most in enumerate((brightness, contrast, saturation))
    )
    colours = images[:, :3]
    count = colours.shape[1]
    matrix = torch.eye(count, dtype=images.dtype, device=images.device)
    grey = images.new_full((count,), 1 / count)
    if count == 3:
        turn = (share[:, 3] * 2 * math.pi * hue)[:, None, None]
        cross = constant(CROSS, images.dtype, images.device) / math.sqrt(3)
        matrix = matrix * turn.cos() + (1 - turn.cos()) / 3 + cross * turn.sin()
        grey = constant(GREY, images.dtype, images.device)
        matrix = saturated * matrix + (1 - saturated) * (grey @ matrix)[:, None]
    matrix = bright * matrix
    mean = matrix @ colours.mean((2, 3))[:, :, None]  # (B,C,1)
    shift = (1 - contrasty) * (grey @ mean)[:, :, None]
    changed = torch.einsum("bdc,bchw->bdhw", contrasty * matrix, colours) + shift[..., None]
    return torch.cat((changed.clamp(0, 1), images[:, 3:]), 1)


def sobel(images: torch.Tensor) -> torch.Tensor:
    """Derivatives of the grey of pictures along x and y: (B,C,H,W) → (B,2,H,W)."""
    grey = F.pad(images[:, :3].mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = constant(SOBEL, images.dtype, images.device) / 4
    return F.conv2d(grey, torch.stack((across, across.T))[:, None])
