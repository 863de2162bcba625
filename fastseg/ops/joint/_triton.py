"""Displaced joints and box sums on a GPU.

The products over displacements are one matrix product each, K×N by N×L for all N pixels, with the
displacement in the addresses. The pixels are cut into shares whose results are added afterwards in
a fixed order, so that there are blocks enough and the bits do not depend on which ends first.

Spectra are made by `plane_spectra`, and multiplied as they lie, frequencies beside each other: a
matrix product for each frequency would want them turned about, which costs more than the products.
"""

from collections.abc import Callable
from functools import cache

import torch
import triton
import triton.language as tl

from ... import backends
from ..inpaint._triton import filter_transpose
from . import _fft
from ._reference import LEAST, displaced_mix, spectrum_size

__all__ = [
    "box_sum",
    "displaced_joint",
    "displaced_mix",  # a convolution, which cuDNN does well
    "iic_terms",
    "iic_terms_back",
    "spectral_joint",
    "spectral_mix",
    "spectrum_size",
]

# Blocks that fill a card of 132 multiprocessors a few times over.
BLOCKS = 2048


@triton.jit
def displaced_joint_kernel(
    p_p,  # (B,K,H,W)
    p_q,  # (B,L,H,W)
    p_out,  # (shares,2T+1,2T+1,K,L)
    B,
    K,
    L,
    H,
    W,
    radius,
    steps,  # of BLOCK_N pixels of one image that a block sums
    PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """One displacement, one share of the pixels, one tile of the classes."""
    side = 2 * radius + 1
    share, displacement = tl.program_id(0) // (side * side), tl.program_id(0) % (side * side)
    dy, dx = displacement // side - radius, displacement % side - radius
    o_k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    o_l = tl.program_id(2) * BLOCK_L + tl.arange(0, BLOCK_L)
    plane = H * W
    pieces = tl.cdiv(plane, BLOCK_N)
    o_planes_p, o_planes_q = o_k[:, None].to(tl.int64) * plane, o_l[None, :].to(tl.int64) * plane
    b_out = tl.zeros((BLOCK_K, BLOCK_L), p_p.dtype.element_ty)
    for piece in range(share * steps, tl.minimum((share + 1) * steps, B * pieces)):
        image = (piece // pieces).to(tl.int64) * plane
        o_n = piece % pieces * BLOCK_N + tl.arange(0, BLOCK_N)
        y, x = o_n // W + dy, o_n % W + dx
        m_n = (o_n < plane) & (y >= 0) & (y < H) & (x >= 0) & (x < W)
        # (BLOCK_K,BLOCK_N) of p, (BLOCK_N,BLOCK_L) of q
        o_p = image * K + o_planes_p + o_n[None, :]
        b_p = tl.load(p_p + o_p, m_n[None, :] & (o_k < K)[:, None], 0)
        o_q = image * L + o_planes_q + (o_n + dy * W + dx)[:, None]
        b_q = tl.load(p_q + o_q, m_n[:, None] & (o_l < L)[None, :], 0)
        b_out = tl.dot(b_p, b_q, b_out, input_precision=PRECISION, out_dtype=b_out.dtype)
    o_out = tl.program_id(0).to(tl.int64) * K * L + o_k[:, None] * L + o_l[None, :]
    tl.store(p_out + o_out, b_out, (o_k < K)[:, None] & (o_l < L)[None, :])


def displaced_joint(p: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """See `_reference.displaced_joint`; p and q are contiguous, float32 or float64.

    Products of float32 are rounded as `torch.set_float32_matmul_precision` says: to TF32 at "high"
    and "medium".
    """
    (batch, classes, height, width), others = p.shape, q.shape[1]
    side = 2 * radius + 1
    tf32 = p.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    block_k, block_l = (min(32, max(16, triton.next_power_of_2(n))) for n in (classes, others))
    block_n = 32 if p.dtype == torch.float32 else 16
    tiles = triton.cdiv(classes, block_k), triton.cdiv(others, block_l)
    total = batch * triton.cdiv(height * width, block_n)
    steps = triton.cdiv(total, max(1, BLOCKS // (side * side * tiles[0] * tiles[1])))
    shares = triton.cdiv(total, steps)
    joint = p.new_empty((shares, side, side, classes, others))
    with torch.cuda.device_of(p):
        displaced_joint_kernel[(shares * side * side, *tiles)](
            p,
            q,
            joint,
            batch,
            classes,
            others,
            height,
            width,
            radius,
            steps,
            PRECISION="tf32" if tf32 else "ieee",
            BLOCK_K=block_k,
            BLOCK_L=block_l,
            BLOCK_N=block_n,
            num_warps=block_k * block_l // 256,
            enable_fp_fusion=True,
            num_stages=2,
        )
    return joint.sum(0)


@triton.jit
def spectral_products_kernel(
    p_a,  # (rows,terms,numbers) complex as pairs, of any strides but for the last
    p_b,  # (columns,terms,numbers)
    p_out,  # (rows,columns,numbers)
    rows,
    columns,
    terms,
    numbers,  # twice as many as frequencies
    a_i,  # strides, in numbers
    a_m,
    b_j,
    b_m,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_F: tl.constexpr,  # numbers
):
    """A tile of pairs (i, j) at BLOCK_F/2 frequencies, summed over the terms."""
    tiles_j = tl.cdiv(columns, BLOCK_J)
    tiles = tl.cdiv(rows, BLOCK_I) * tiles_j
    # Tiles of the same frequencies run together, so that they are read from memory once.
    tile, start = tl.program_id(0) % tiles, (tl.program_id(0) // tiles).to(tl.int64) * BLOCK_F
    o_i = (tile // tiles_j * BLOCK_I + tl.arange(0, BLOCK_I)).to(tl.int64)
    o_j = (tile % tiles_j * BLOCK_J + tl.arange(0, BLOCK_J)).to(tl.int64)
    o_f = start + tl.arange(0, BLOCK_F)
    m_a = (o_i < rows)[:, None] & (o_f < numbers)[None, :]
    m_b = (o_j < columns)[:, None] & (o_f < numbers)[None, :]
    o_a, o_b = o_i[:, None] * a_i + o_f[None, :], o_j[:, None] * b_j + o_f[None, :]
    dtype: tl.constexpr = p_a.dtype.element_ty
    b_real = tl.zeros((BLOCK_I, BLOCK_J, BLOCK_F // 2), dtype)
    b_imag = tl.zeros((BLOCK_I, BLOCK_J, BLOCK_F // 2), dtype)
    for _ in range(terms):
        b_a = tl.load(p_a + o_a, m_a, 0)
        b_b = tl.load(p_b + o_b, m_b, 0)
        p_a += a_m
        p_b += b_m
        # (BLOCK_I,1,BLOCK_F/2), (1,BLOCK_J,BLOCK_F/2)
        a_real, a_imag = tl.split(tl.reshape(b_a, (BLOCK_I, 1, BLOCK_F // 2, 2)))
        b_b = tl.reshape(b_b, (1, BLOCK_J, BLOCK_F // 2, 2))
        c_real, c_imag = tl.split(b_b)
        b_real += a_real * c_real + a_imag * c_imag
        b_imag += a_real * c_imag - a_imag * c_real
    o_f = start + 2 * tl.arange(0, BLOCK_F // 2)
    o_out = (o_i[:, None, None] * columns + o_j[None, :, None]) * numbers + o_f
    m_out = (o_i < rows)[:, None, None] & (o_j < columns)[None, :, None] & (o_f < numbers)
    tl.store(p_out + o_out, b_real, m_out)
    tl.store(p_out + o_out + 1, b_imag, m_out)


def spectral_products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """See `_fft.spectral_products`; the frequencies of either lie together."""
    out = a.new_empty((len(a), len(b), *a.shape[2:]))
    # Real and imaginary parts one after the other.
    a, b, parts = (torch.view_as_real(x).flatten(2) for x in (a, b, out))
    (rows, terms, numbers), columns = a.shape, len(b)
    most = 8 if a.dtype == torch.float32 else 4
    block_i, block_j = (min(most, triton.next_power_of_2(n)) for n in (rows, columns))
    block_f = 256
    tiles = triton.cdiv(rows, block_i) * triton.cdiv(columns, block_j)
    with torch.cuda.device_of(a):
        spectral_products_kernel[(tiles * triton.cdiv(numbers, block_f),)](
            a,
            b,
            parts,
            rows,
            columns,
            terms,
            numbers,
            *a.stride()[:2],
            *b.stride()[:2],
            BLOCK_I=block_i,
            BLOCK_J=block_j,
            BLOCK_F=block_f,
            # 16 sums a thread, their addresses being as many.
            num_warps=max(1, block_i * block_j // 4),
            enable_fp_fusion=True,
        )
    return out


def spectral_joint(
    p: torch.Tensor, q: torch.Tensor, radius: int
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """See `_fft.spectral_joint`."""
    return _fft.spectral_joint(p, q, radius, spectral_products, *_transforms(p.device))


def spectral_mix(
    weights: torch.Tensor, q: torch.Tensor, q_hat: torch.Tensor, radius: int
) -> torch.Tensor:
    """See `_fft.spectral_mix`."""
    return _fft.spectral_mix(weights, q, q_hat, radius, spectral_products, *_transforms(q.device))


def _transforms(device: torch.device) -> tuple[Callable, Callable]:
    planes = backends.load("plane_spectra", device, "auto")
    return planes.plane_spectra, planes.plane_pixels


def box_sum(x: torch.Tensor, radius: int) -> torch.Tensor:
    """See `_reference.box_sum`; x is contiguous, float32 or float64."""
    with torch.cuda.device_of(x):
        for _ in range(2):
            rows = _ones(min(x.shape[2], 2 * radius + 1), 2 * radius + 1, x.dtype, x.device)
            x = filter_transpose(x, rows, radius)
        return x


# Without a limit, since a captured CUDA graph keeps the address: an evicted table would be freed.
@cache
def _ones(rows: int, taps: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.ones((rows, taps), dtype=dtype, device=device)


@triton.jit
def iic_terms_kernel(
    p_joint,  # (D,K,K)
    p_terms,  # (D,)
    p_grad,  # (D,K,K)
    K,
    LAMB: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    BACK: tl.constexpr,  # the terms are their gradient, that of the joints is written
    LEAST: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One joint."""
    o_k = tl.arange(0, BLOCK_K)
    m_k = (o_k < K)[:, None] & (o_k < K)[None, :]
    o_joint = tl.program_id(0).to(tl.int64) * K * K
    b_joint = tl.load(p_joint + o_joint + o_k[:, None] * K + o_k[None, :], m_k, 0)
    b_p = tl.where(b_joint < 0, 0, b_joint)
    total = tl.sum(tl.sum(b_p, 1), 0)
    total = tl.where(total > 0, total, 1)
    if SYMMETRIC:
        b_other = tl.load(p_joint + o_joint + o_k[None, :] * K + o_k[:, None], m_k, 0)
        b_p = (b_p + tl.where(b_other < 0, 0, b_other)) / 2
    b_p /= total
    b_rows, b_columns = tl.sum(b_p, 1), tl.sum(b_p, 0)
    b_log = tl.log(tl.where(b_p < LEAST, LEAST, b_p))
    b_log_rows = tl.log(tl.where(b_rows < LEAST, LEAST, b_rows))
    b_log_columns = tl.log(tl.where(b_columns < LEAST, LEAST, b_columns))
    if BACK:
        b_rows = b_log_rows + tl.where(b_rows < LEAST, 0, 1)
        b_columns = b_log_columns + tl.where(b_columns < LEAST, 0, 1)
        b_slope = LAMB * (b_rows[:, None] + b_columns[None, :])
        b_slope -= b_log + tl.where(b_p < LEAST, 0, 1)
        b_slope -= tl.sum(tl.sum(b_slope * b_p, 1), 0)
        b_slope *= tl.load(p_terms + tl.program_id(0)) / total
        o_grad = o_joint + o_k[:, None] * K + o_k[None, :]
        tl.store(p_grad + o_grad, tl.where(b_joint < 0, 0, b_slope), m_k)
    else:
        marginals = tl.sum(b_rows * b_log_rows, 0) + tl.sum(b_columns * b_log_columns, 0)
        term = LAMB * marginals - tl.sum(tl.sum(b_p * b_log, 1), 0)
        tl.store(p_terms + tl.program_id(0), term)


def iic_terms(joint: torch.Tensor, lamb: float, symmetric: bool) -> torch.Tensor:
    """See `_reference.iic_terms`; joints are contiguous, float32 or float64."""
    terms = joint.new_empty(joint.shape[:-2])
    _launch_terms(joint, terms, None, lamb, symmetric)
    return terms


def iic_terms_back(
    of_terms: torch.Tensor, joint: torch.Tensor, lamb: float, symmetric: bool
) -> torch.Tensor:
    """See `_reference.iic_terms_back`; both are contiguous, float32 or float64."""
    grad = torch.empty_like(joint)
    _launch_terms(joint, of_terms, grad, lamb, symmetric)
    return grad


def _launch_terms(
    joint: torch.Tensor,
    terms: torch.Tensor,
    grad: torch.Tensor | None,
    lamb: float,
    symmetric: bool,
) -> None:
    classes = joint.shape[-1]
    block_k = max(2, triton.next_power_of_2(classes))
    with torch.cuda.device_of(joint):
        iic_terms_kernel[(terms.numel(),)](
            joint,
            terms,
            joint if grad is None else grad,
            classes,
            LAMB=float(lamb),
            SYMMETRIC=symmetric,
            BACK=grad is not None,
            LEAST=LEAST,
            BLOCK_K=block_k,
            num_warps=max(1, block_k * block_k // 256),
            enable_fp_fusion=True,
        )
