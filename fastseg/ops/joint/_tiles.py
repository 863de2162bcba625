"""Displaced joints by cross-correlation of the spectra of tiles, on a CPU.

Ĵ[k,l] = Σ_r conj(p̂[r,k])·q̂[r,l] over the tiles r of all images: one of p, and that of q with the
pixels within reach around it, in a window that wraps no displacement up to T onto another. Small
tiles have small spectra: those of K·L joints stay in the cache, as do those of a few images at a
time, which are made anew for the gradients instead of being kept. Along x the transform is a
product with a Fourier matrix, which cuts and pads as well; so are those from Ĵ and to it, since no
more than (2T+1)² of their values count. Along y csrc/spectra.h transforms packs of columns.

Spectra are (blocks·n,K,R,2,BLOCK): BLOCK frequencies beside each other along x, real parts and then
imaginary ones; below a block lies the next of the n, and rows of frequencies end in zeros.
"""

import math
from functools import cache

import torch

from ... import _native
from .plan import BLOCK, Axis, Tiling

# Of the spectra of one field, at a time.
MOST_VALUES = 1 << 22
# Of the spectra of joints, at a time.
MOST_JOINT_VALUES = 1 << 26


@cache
def fourier(
    columns: Axis, rows: Axis, radius: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Roots of 1 (2,n) along y, and the matrices that turn the pixels of a window to its
    frequencies along x (m,2·wide), and its tile's frequencies to pixels (2·wide,step)."""
    n, m = rows.size, columns.size
    wide = Tiling(rows, columns, radius).blocks * BLOCK
    turns = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    roots = torch.stack((turns.cos(), -turns.sin()))
    angle = _angles(torch.arange(m), m, wide)
    forth = torch.cat((_halves(angle.cos(), m), _halves(-angle.sin(), m)), 1)
    step = -(-columns.step // BLOCK) * BLOCK
    angle = _angles(radius + torch.arange(step), m, wide)
    back = torch.cat((angle.cos() * _twice(m, n, wide), -angle.sin() * _twice(m, n, wide)), 1).mT
    return roots.to(dtype), forth.to(dtype), back.to(dtype).contiguous()


def _angles(places: torch.Tensor, m: int, wide: int) -> torch.Tensor:
    """2π·fx·x/m: (places,wide)."""
    return (places[:, None] * torch.arange(wide) % m).double() * (2 * math.pi / m)


def _halves(x: torch.Tensor, m: int) -> torch.Tensor:
    """Zero behind the m/2+1 frequencies that a real signal has."""
    return torch.where(torch.arange(x.shape[-1]) <= m // 2, x, 0)


def _twice(m: int, n: int, wide: int) -> torch.Tensor:
    """1/(n·m) for the first frequency and the last; the others stand for their conjugates too."""
    weight = torch.full((wide,), 2 / (n * m), dtype=torch.float64)
    weight[0] = weight[m // 2] = 1 / (n * m)
    return _halves(weight, m)


@cache
def slices(
    rows: int, columns: int, blocks: int, radius: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Slices of the Fourier matrices for the displacements −T … T.

    down (2·(2T+1),n): cos, then sin, of 2π·fy·dy/n. across (blocks,2,2·BLOCK,2T+1): of the angle
    2π·fx·dx/m, what cos (first) and sin (second) of `down` meet in the real and in the imaginary
    part. inverse: the same, weighed for the way back.
    """
    lags, wide = torch.arange(-radius, radius + 1), blocks * BLOCK
    turns = (lags[:, None] * torch.arange(rows) % rows).double() * (2 * math.pi / rows)
    angle = _angles(lags, columns, wide)
    cos, sin = _halves(angle.cos(), columns), _halves(angle.sin(), columns)
    parts = torch.stack((torch.stack((cos, -sin)), torch.stack((-sin, -cos))))  # (2,2,lags,wide)
    weighed = parts * _twice(columns, rows, wide)
    across, inverse = (
        x.unflatten(-1, (blocks, BLOCK)).permute(3, 0, 1, 4, 2).flatten(2, 3).to(dtype).contiguous()
        for x in (parts, weighed)
    )
    return torch.cat((turns.cos(), turns.sin())).to(dtype), across, inverse


def shares(batch: int, channels: int, tiling: Tiling) -> list[slice]:
    """The images, as many at a time as have no more than MOST_VALUES."""
    step = max(1, MOST_VALUES // (channels * tiling.tiles * tiling.frequencies * 2))
    return [slice(b, min(b + step, batch)) for b in range(0, batch, step)]


def most_channels(others: int, tiling: Tiling) -> int:
    """As many of K as have no more than MOST_JOINT_VALUES."""
    return max(1, MOST_JOINT_VALUES // (others * tiling.frequencies * 2))


def empty(like: torch.Tensor, *shape: int) -> torch.Tensor:
    """Fresh memory, in huge pages if it is large: the system hands out small ones slowly."""
    out = like.new_empty(shape)
    _native.hint_large(out.numpy())
    return out


def room(x: torch.Tensor, parts: list[slice], tiling: Tiling) -> torch.Tensor:
    """Memory for the spectra of x of one share after the other."""
    return empty(x, parts[0].stop * x.shape[1] * tiling.tiles * tiling.frequencies * 2)


def shaped(memory: torch.Tensor, channels: int, images: int, tiling: Tiling) -> torch.Tensor:
    """Spectra at the beginning of `memory`."""
    shape = tiling.rows.size * tiling.blocks, channels, images * tiling.tiles, 2, BLOCK
    return memory[: math.prod(shape)].view(shape)


def spectra(x: torch.Tensor, tiling: Tiling, around: bool, memory: torch.Tensor) -> torch.Tensor:
    """Those of the tiles of x (B,K,H,W), with the pixels `around` them or without."""
    out = shaped(memory, x.shape[1], len(x), tiling)
    roots, forth, _ = fourier(tiling.columns, tiling.rows, tiling.radius, x.dtype)
    _native.tile_spectra(
        x.numpy(),
        out.numpy(),
        rows=tiling.rows.cut(),
        columns=tiling.columns.cut(),
        radius=tiling.radius,
        around=around,
        roots=roots.numpy(),
        table=forth.numpy(),
        threads=torch.get_num_threads(),
    )
    return out


def pixels(hat: torch.Tensor, tiling: Tiling, out: torch.Tensor) -> None:
    """Write planes (B,K,H,W) from the spectra of their tiles."""
    roots, _, back = fourier(tiling.columns, tiling.rows, tiling.radius, hat.dtype)
    _native.tile_pixels(
        hat.numpy(),
        out.numpy(),
        rows=tiling.rows.cut(),
        columns=tiling.columns.cut(),
        radius=tiling.radius,
        roots=roots.numpy(),
        table=back.numpy(),
        threads=torch.get_num_threads(),
    )


def displaced_joint(p: torch.Tensor, q: torch.Tensor, tiling: Tiling) -> torch.Tensor:
    """See `_reference.displaced_joint`."""
    classes, others, side = p.shape[1], q.shape[1], 2 * tiling.radius + 1
    n, blocks, pairs = tiling.rows.size, tiling.blocks, classes * others
    hat = empty(p, n * blocks, classes, others, 2, BLOCK)
    parts = shares(len(p), max(classes, others), tiling)
    p_room, q_room = (room(x, parts, tiling) for x in (p, q))
    for some in parts:
        p_hat = spectra(p[some], tiling, False, p_room)
        q_hat = spectra(q[some], tiling, True, q_room)
        add = some.start > 0
        threads = torch.get_num_threads()
        _native.join_spectra(p_hat.numpy(), q_hat.numpy(), hat.numpy(), add, threads)
    del p_hat, q_hat, p_room, q_room
    down, _, inverse = slices(n, tiling.columns.size, blocks, tiling.radius, p.dtype)
    values = p.new_zeros((side, pairs, side))  # (dy,KL,dx)
    lines = empty(p, 2, side, pairs, 2 * BLOCK)
    for ways, part in zip(inverse, hat.view(blocks, n, -1), strict=True):
        torch.mm(down, part, out=lines.view(2 * side, -1))
        for i in (0, 1):
            values.baddbmm_(lines[i], ways[i].expand(side, -1, -1))
    return values.mT.contiguous().view(side, side, classes, others)


def displaced_mix(weights: torch.Tensor, q: torch.Tensor, tiling: Tiling) -> torch.Tensor:
    """See `_reference.displaced_mix`."""
    side, _, classes, others = weights.shape
    n, blocks = tiling.rows.size, tiling.blocks
    down, across, _ = slices(n, tiling.columns.size, blocks, tiling.radius, q.dtype)
    taps = weights.reshape(side, side, -1).mT  # (dy,KL,dx)
    lines = empty(q, 2, side, classes * others, 2 * BLOCK)
    hat = empty(q, n * blocks, classes, others, 2, BLOCK)
    for ways, part in zip(across, hat.view(blocks, n, -1), strict=True):
        for i in (0, 1):
            torch.bmm(taps, ways[i].mT.expand(side, -1, -1), out=lines[i])
        torch.mm(down.mT, lines.view(2 * side, -1), out=part)
    del taps, lines
    out = empty(q, len(q), classes, *q.shape[2:])
    parts = shares(len(q), max(classes, others), tiling)
    q_room, out_room = (room(x, parts, tiling) for x in (q, out))
    for some in parts:
        q_hat = spectra(q[some], tiling, True, q_room)
        mixed = shaped(out_room, classes, len(q[some]), tiling)
        threads = torch.get_num_threads()
        _native.mix_spectra(hat.numpy(), q_hat.numpy(), mixed.numpy(), threads)
        pixels(mixed, tiling, out[some])
    return out
