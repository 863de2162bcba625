"""The sums of a soft normalised cut on a GPU, one launch; their gradient, one more.

A program sums BLOCK_K planes at BLOCK_P pixels of one image, the exponent of each affinity shared
by all planes; neighbours come from the first cache. Each program leaves its part of the image's
sums, which are then added in a fixed order.
"""

from functools import cache

import torch
import triton
import triton.language as tl

from ._disc import rate, reach


@triton.jit
def ncut_kernel(
    p_p,  # (B,K,H,W)
    p_colours,  # (B,C,H,W)
    p_rates,  # (2,) 1/σ_I² and 1/σ_X²
    p_filtered,  # (B,K,H,W)
    p_degree,  # (B,H,W)
    p_parts,  # (B,2,K,blocks)
    K,
    H,
    W,
    reach,
    square,  # of the radius
    blocks,  # of pixels, an image
    C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Planes k … k+BLOCK_K at pixels i … i+BLOCK_P of one image."""
    dtype: tl.constexpr = p_p.dtype.element_ty
    block, group = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    k, image = group % tl.cdiv(K, BLOCK_K) * BLOCK_K, (group // tl.cdiv(K, BLOCK_K)).to(tl.int64)
    o_k = k + tl.arange(0, BLOCK_K)
    o_i = block.to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    o_y, o_x = o_i // W, o_i % W
    m_k, m_i = o_k < K, o_y < H
    o_p = (image * K + o_k[:, None]) * H * W + o_i[None, :]  # (BLOCK_K,BLOCK_P)
    color_rate, space_rate = tl.load(p_rates), tl.load(p_rates + 1)

    b_filtered = tl.zeros((BLOCK_K, BLOCK_P), dtype)
    b_degree = tl.zeros((BLOCK_P,), dtype)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            distance = dy * dy + dx * dx
            if distance < square:
                m_j = m_i & (o_y + dy >= 0) & (o_y + dy < H) & (o_x + dx >= 0) & (o_x + dx < W)
                step = dy * W + dx
                b_decay = tl.zeros((BLOCK_P,), dtype) + distance * space_rate
                for c in tl.static_range(C):
                    o_c = (image * C + c) * H * W + o_i
                    b_apart = tl.load(p_colours + o_c + step, m_j, 0)
                    b_apart -= tl.load(p_colours + o_c, m_i, 0)
                    b_decay += b_apart * b_apart * color_rate
                b_weight = tl.where(m_j, tl.exp(-b_decay), 0)
                b_p = tl.load(p_p + o_p + step, m_k[:, None] & m_j[None, :], 0)
                b_filtered += b_weight[None, :] * b_p
                b_degree += b_weight
    m_p = m_k[:, None] & m_i[None, :]
    tl.store(p_filtered + o_p, b_filtered, m_p)
    if k == 0:
        tl.store(p_degree + image * H * W + o_i, b_degree, m_i)
    b_p = tl.load(p_p + o_p, m_p, 0)
    o_part = (image * 2 * K + o_k) * blocks + block
    tl.store(p_parts + o_part, tl.sum(b_p * b_filtered, 1), m_k)
    tl.store(p_parts + o_part + K * blocks, tl.sum(b_p * b_degree[None, :], 1), m_k)


def ncut_sums(
    p: torch.Tensor, colours: torch.Tensor, radius: int, sigma_color: float, sigma_space: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `_reference.ncut_sums`; both are contiguous, float32 or float64."""
    batch, classes, height, width = p.shape
    filtered, degree = torch.empty_like(p), p.new_empty((batch, height, width))
    # More planes a program, and the sums no longer fit in registers.
    most, warps = (16, 4) if p.dtype == torch.float32 else (8, 8)
    block_p, block_k = 128, min(most, triton.next_power_of_2(classes))
    blocks = triton.cdiv(height * width, block_p)
    parts = p.new_empty((batch, 2, classes, blocks))
    with torch.cuda.device_of(p):
        ncut_kernel[(batch * triton.cdiv(classes, block_k) * blocks,)](
            p,
            colours,
            _rates(sigma_color, sigma_space, p.dtype, p.device),
            filtered,
            degree,
            parts,
            classes,
            height,
            width,
            reach(radius, height, width),
            radius * radius,
            blocks,
            C=colours.shape[1],
            BLOCK_K=block_k,
            BLOCK_P=block_p,
            num_warps=warps,
            enable_fp_fusion=True,
        )
    inner, outer = parts.sum(3).unbind(1)
    return inner.clone(), outer.clone(), filtered, degree


@triton.jit
def ncut_back_kernel(
    p_of_inner,  # (B,K)
    p_of_outer,  # (B,K)
    p_filtered,  # (B,K,N)
    p_degree,  # (B,N)
    p_grad,  # (B,K,N)
    K,
    N,
    BLOCK: tl.constexpr,
):
    """Pixels i … i+BLOCK of one plane."""
    blocks = tl.cdiv(N, BLOCK)
    plane = (tl.program_id(0) // blocks).to(tl.int64)
    o_i = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    m_i = o_i < N
    b_grad = tl.load(p_filtered + plane * N + o_i, m_i, 0) * (2 * tl.load(p_of_inner + plane))
    b_degree = tl.load(p_degree + plane // K * N + o_i, m_i, 0)
    tl.store(p_grad + plane * N + o_i, b_grad + tl.load(p_of_outer + plane) * b_degree, m_i)


def ncut_back(
    of_inner: torch.Tensor, of_outer: torch.Tensor, filtered: torch.Tensor, degree: torch.Tensor
) -> torch.Tensor:
    """See `_reference.ncut_back`; all are contiguous, float32 or float64."""
    batch, classes, height, width = filtered.shape
    grad, block = torch.empty_like(filtered), 1024
    with torch.cuda.device_of(filtered):
        ncut_back_kernel[(batch * classes * triton.cdiv(height * width, block),)](
            of_inner,
            of_outer,
            filtered,
            degree,
            grad,
            classes,
            height * width,
            BLOCK=block,
            num_warps=4,
            enable_fp_fusion=True,
        )
    return grad


# Without a limit, since a captured CUDA graph keeps the address: an evicted pair would be freed.
@cache
def _rates(
    sigma_color: float, sigma_space: float, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    rates = [rate(sigma, dtype) for sigma in (sigma_color, sigma_space)]
    return torch.tensor(rates, dtype=dtype, device=device)
