"""The masked convolution on a GPU as one matrix product a tile, over the live taps alone.

A program computes BLOCK_O channels of BLOCK_P pixels: for each live tap and BLOCK_C channels a
product of pixels, found by the tap's displacement, and weights. Nothing is padded or shifted in
memory. Bias, residual and ReLU are applied before the one store. Two orderings of one batch are
one launch, whose blocks read the same pixels.
"""

from collections.abc import Sequence
from functools import cache

import torch
import triton
import triton.language as tl

from ...orderings import turn_back
from ._taps import layout
from ._torch import masked_conv2d_weight

__all__ = ["masked_conv2d", "masked_conv2d_pair", "masked_conv2d_weight"]


@triton.jit
def masked_conv_kernel(
    p_x,  # (B,H,W,C)
    p_weight,  # (V,TAPS,C/groups,O), V orderings
    p_bias,  # (O,)
    p_residual,  # (B,H,W,O)
    p_first,  # (B,H,W,O), the result of the first ordering
    p_second,  # and of the second
    pixels,  # B·H·W
    H,
    W,
    C,  # of a group
    outs,  # of a group
    groups,
    dilation,
    top,  # rows of the kernel above the current pixel's, in the frame of ordering 1
    first,  # the orderings
    second,
    SIZE: tl.constexpr,
    TAPS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """One tile of one ordering and group."""
    acc: tl.constexpr = tl.float64 if p_x.dtype.element_ty == tl.float64 else tl.float32
    blocks = tl.cdiv(pixels, BLOCK_P)
    view, group = tl.program_id(0) // blocks, tl.program_id(1) // tl.cdiv(outs, BLOCK_O)
    o_n = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    o_y, o_x = (o_n // W % H).to(tl.int32), (o_n % W).to(tl.int32)
    o_o = tl.program_id(1) % tl.cdiv(outs, BLOCK_O) * BLOCK_O + tl.arange(0, BLOCK_O)
    o_c = tl.arange(0, BLOCK_C)
    m_n, m_o = o_n < pixels, o_o < outs
    turn = tl.where(view == 0, first, second) - 1
    flip = tl.where(turn >= 4, -dilation, dilation)
    turn %= 4
    p_in = p_x + o_n * (C * groups) + group * C
    p_w = p_weight + view.to(tl.int64) * TAPS * C * outs * groups + group * outs + o_o

    chunks = tl.cdiv(C, BLOCK_C)
    b_out = tl.zeros((BLOCK_P, BLOCK_O), acc)
    for step in range(TAPS * chunks):
        tap, c = step // chunks, step % chunks * BLOCK_C
        up, right = (tap // SIZE - top) * dilation, (tap % SIZE - SIZE // 2) * flip
        # Turned counter-clockwise: (y,x) → (−x,y).
        dy = tl.where(turn % 2 == 0, up, -right) * tl.where(turn < 2, 1, -1)
        dx = tl.where(turn % 2 == 0, right, up) * tl.where(turn < 2, 1, -1)
        m_in = m_n & (o_y + dy >= 0) & (o_y + dy < H) & (o_x + dx >= 0) & (o_x + dx < W)
        m_c = o_c < C - c
        # (BLOCK_P,BLOCK_C) of x, (BLOCK_C,BLOCK_O) of the weights
        o_in = (dy.to(tl.int64) * W + dx) * (C * groups) + c
        b_x = tl.load(p_in[:, None] + (o_in + o_c)[None, :], m_in[:, None] & m_c[None, :], 0)
        o_w = (tap * C + c + o_c).to(tl.int64) * (outs * groups)
        b_w = tl.load(p_w[None, :] + o_w[:, None], m_c[:, None] & m_o[None, :], 0)
        b_out = tl.dot(b_x, b_w, b_out, input_precision=PRECISION, out_dtype=acc)
    if HAS_BIAS:
        b_out += tl.load(p_bias + group * outs + o_o, m_o, 0).to(acc)[None, :]
    o_out = o_n[:, None] * (outs * groups) + (group * outs + o_o)[None, :]
    m_out = m_n[:, None] & m_o[None, :]
    if HAS_RESIDUAL:
        b_out += tl.load(p_residual + o_out, m_out, 0).to(acc)
    if RELU:
        b_out = tl.where(b_out < 0, 0, b_out)  # what is not a number stays so
    if view == 0:
        tl.store(p_first + o_out, b_out.to(p_first.dtype.element_ty), m_out)
    else:
        tl.store(p_second + o_out, b_out.to(p_first.dtype.element_ty), m_out)


def masked_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    ordering: int,
    dilation: int,
    groups: int,
    relu: bool,
) -> torch.Tensor:
    """See `_reference.masked_conv2d`; computed in channels last."""
    return _launch(x, weight, bias, residual, (ordering,), dilation, groups, relu)[0]


def masked_conv2d_pair(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    first: int,
    second: int,
    dilation: int,
    groups: int,
    relu: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same input in two orderings, of which none is 0, in one launch."""
    one, other = _launch(x, weight, bias, None, (first, second), dilation, groups, relu)
    return one, other


def _launch(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    orderings: Sequence[int],
    dilation: int,
    groups: int,
    relu: bool,
) -> list[torch.Tensor]:
    """One result an ordering, of which there are at most two."""
    (batch, _, height, width), (outs, channels, size, _) = x.shape, weight.shape
    last = torch.channels_last
    taps = _live_taps(size, orderings[0])
    shape = (batch, outs, height, width)
    results = [
        torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=last) for _ in orderings
    ]
    packed = torch.stack([_packed(weight, ordering) for ordering in orderings])
    block_p, block_o, block_c, warps = _blocks(x.dtype, outs // groups, channels)
    pixels = batch * height * width
    grid = (
        len(orderings) * triton.cdiv(pixels, block_p),
        groups * triton.cdiv(outs // groups, block_o),
    )
    tf32 = x.dtype == torch.float32 and torch.backends.cudnn.allow_tf32
    with torch.cuda.device_of(x):
        masked_conv_kernel[grid](
            x.contiguous(memory_format=last),
            packed,
            packed if bias is None else bias.contiguous(),
            packed if residual is None else residual.contiguous(memory_format=last),
            results[0],
            results[-1],
            pixels,
            height,
            width,
            channels,
            outs // groups,
            groups,
            dilation,
            size - 1 if orderings[0] else size // 2,
            orderings[0] or 1,
            orderings[-1] or 1,
            SIZE=size,
            TAPS=taps,
            HAS_BIAS=bias is not None,
            HAS_RESIDUAL=residual is not None,
            RELU=relu,
            PRECISION="tf32" if tf32 else "ieee",
            BLOCK_P=block_p,
            BLOCK_O=block_o,
            BLOCK_C=block_c,
            num_warps=warps,
            num_stages=3,
            enable_fp_fusion=True,
        )
    return [result.contiguous(memory_format=layout(x)) for result in results]


def _live_taps(size: int, ordering: int) -> int:
    """Those of ordering 1 are the first in raster order."""
    return size * size - (size // 2 if ordering else 0)


def _packed(weight: torch.Tensor, ordering: int) -> torch.Tensor:
    """The live taps of (O,C,F,F) in the raster order of ordering 1: (taps,C,O)."""
    index = _taps_of(weight.shape[2], ordering, weight.device)
    return weight.flatten(2).permute(2, 1, 0).index_select(0, index)


# Without a limit, since a captured CUDA graph keeps the address: an evicted table would be freed.
@cache
def _taps_of(size: int, ordering: int, device: torch.device) -> torch.Tensor:
    """Where the live taps are in a kernel of `ordering`."""
    taps = torch.arange(size * size).view(size, size)
    return turn_back(taps, ordering or 1).flatten()[: _live_taps(size, ordering)].to(device)


def _blocks(dtype: torch.dtype, outs: int, channels: int) -> tuple[int, int, int, int]:
    """BLOCK_P, BLOCK_O, BLOCK_C and warps: as many products a tile as registers hold."""

    def fit(n: int, most: int) -> int:
        return min(most, max(16, triton.next_power_of_2(n)))

    if dtype == torch.float64:
        return 32, fit(outs, 32), 16, 4
    if dtype == torch.float32:
        return 64, fit(outs, 64), fit(channels, 32), 4
    return 128, fit(outs, 128), fit(channels, 64), 8
