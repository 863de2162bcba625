"""The Gaussian filter on a GPU: K * x = S_y x S_x, one launch along each axis.

S, the filter matrix of an axis, is a band: a block of it times a strip of the image is a small
matrix product, whose operands stay on chip while every loaded pixel serves `BLOCK_H` outputs. Each
launch filters along y and writes its result transposed, so two of the same make the whole filter.

A pixel within `BLOCK_H` beyond the filter's reach is multiplied by 0, not left out: one that is not
finite spreads that much farther than in the reference.
"""

from functools import cache

import torch
import triton
import triton.language as tl

from ._gaussian import filter_rows


@triton.jit
def filter_transpose_kernel(
    p_x,  # (N,H,W) planes
    p_rows,  # (min(H,2r+1),2r+1) distinct rows of S, as `filter_rows` gives them
    p_out,  # (N,W,H)
    H,
    W,
    radius,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One block of S_y x, written transposed."""
    taps = 2 * radius + 1
    block = tl.program_id(0)
    blocks_h, blocks_w = tl.cdiv(H, BLOCK_H), tl.cdiv(W, BLOCK_W)
    plane = (block // (blocks_h * blocks_w)).to(tl.int64) * H * W
    h = block // blocks_w % blocks_h * BLOCK_H
    o_h = h + tl.arange(0, BLOCK_H)
    o_w = block % blocks_w * BLOCK_W + tl.arange(0, BLOCK_W)
    m_h, m_w = o_h < H, o_w < W
    # Away from the image's edges all rows of S are alike, see `row_of`.
    o_row = tl.where(taps >= H, o_h, tl.minimum(o_h, tl.maximum(radius, o_h - H + taps))) * taps

    b_out = tl.zeros((BLOCK_H, BLOCK_W), p_x.dtype.element_ty)
    for k in range(tl.maximum(h - radius, 0), tl.minimum(h + BLOCK_H + radius, H), BLOCK_K):
        o_k = k + tl.arange(0, BLOCK_K)
        # (BLOCK_H,BLOCK_K) of S
        o_tap = o_k[None, :] - o_h[:, None] + radius
        m_tap = (o_tap >= 0) & (o_tap < taps) & m_h[:, None]
        b_s = tl.load(p_rows + o_row[:, None] + o_tap, m_tap, 0)
        # (BLOCK_K,BLOCK_W) of x
        o_x = plane + o_k[:, None].to(tl.int64) * W + o_w[None, :]
        b_x = tl.load(p_x + o_x, (o_k < H)[:, None] & m_w[None, :], 0)
        b_out = tl.dot(b_s, b_x, b_out, input_precision="ieee", out_dtype=b_out.dtype)
    o_out = plane + o_w[None, :].to(tl.int64) * H + o_h[:, None]
    tl.store(p_out + o_out, b_out, m_h[:, None] & m_w[None, :])


def gaussian_filter(x: torch.Tensor, sigma: float, taps: int, passes: int) -> torch.Tensor:
    """K * x, each plane by itself: x (B,C,H,W), contiguous, float32 or float64 → (B,C,H,W)."""
    radius = taps // 2 * passes
    with torch.cuda.device_of(x):
        for size in x.shape[2:]:
            # A taller plane has the rows of one of 2r+1.
            rows = _rows(min(size, 2 * radius + 1), sigma, taps, passes, x.dtype, x.device)
            x = filter_transpose(x, rows, radius)
        return x


def filter_transpose(x: torch.Tensor, rows: torch.Tensor, radius: int) -> torch.Tensor:
    """x (B,C,H,W), filtered along H by the matrix of the distinct `rows` → (B,C,W,H)."""
    batch, channels, height, width = x.shape
    out = x.new_empty((batch, channels, width, height))
    block_h, block_w, block_k, warps = (16, 128, 8, 2) if width > 32 else (16, 32, 8, 1)
    blocks = batch * channels * triton.cdiv(height, block_h) * triton.cdiv(width, block_w)
    filter_transpose_kernel[(blocks,)](
        x,
        rows,
        out,
        height,
        width,
        radius,
        BLOCK_H=block_h,
        BLOCK_W=block_w,
        BLOCK_K=block_k,
        num_warps=warps,
        num_stages=3,
        enable_fp_fusion=True,
    )
    return out


# Without a limit, since a captured CUDA graph keeps the address: an evicted table would be freed.
@cache
def _rows(
    size: int, sigma: float, taps: int, passes: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    return torch.tensor(filter_rows(size, sigma, taps, passes), dtype=dtype, device=device)
