"""The terms of InfoSeg's bound on a GPU: a program has some pixels of one image with its scores and
those of the image that it is the partner of, all classes in registers."""

from functools import cache

import torch
import triton
import triton.language as tl


@triton.jit
def _share(b_s, m_k, tau, HARD: tl.constexpr):
    """(K,N) scores, −∞ beyond the classes → the assignment."""
    if HARD:
        o_k = tl.arange(0, b_s.shape[0])
        return tl.where(o_k[:, None] == tl.argmax(b_s, 0)[None, :], 1.0, 0.0).to(b_s.dtype)
    b_v = tl.where(m_k, tl.exp(tau * (b_s - tl.max(b_s, 0)[None, :])), 0)
    return b_v / tl.sum(b_v, 0)[None, :]


@triton.jit
def pair_terms_kernel(
    p_scores,  # (B,2K,N)
    p_partner,  # (B,)
    p_tau,  # (1,)
    p_joint,  # (B,N), −t⁺
    p_marginal,  # (B,N), t⁻
    p_grad,  # (B,2K,N)
    K,
    N,
    HARD: tl.constexpr,
    BACK: tl.constexpr,  # joint and marginal are their gradients, that of the scores is written
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Pixels n … n+BLOCK_N of the partner of one image."""
    blocks = tl.cdiv(N, BLOCK_N)
    source = (tl.program_id(0) // blocks).to(tl.int64)
    image = tl.load(p_partner + source).to(tl.int64)
    o_n = tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    m_n, m_k = o_n < N, (o_k < K)[:, None]
    o_own = (image * 2 * K + o_k[:, None]) * N + o_n[None, :]  # (BLOCK_K,BLOCK_N)
    o_other = ((source * 2 + 1) * K + o_k[:, None]) * N + o_n[None, :]
    m_s = m_k & m_n[None, :]
    b_own = tl.load(p_scores + o_own, m_s, 0)
    b_other = tl.load(p_scores + o_other, m_s, 0)
    tau = tl.load(p_tau)
    b_share = _share(tl.where(m_k, b_own, float("-inf")), m_k, tau, HARD)
    if BACK:
        b_of_joint = -tl.load(p_joint + image * N + o_n, m_n, 0)[None, :]
        b_of_marginal = tl.load(p_marginal + source * N + o_n, m_n, 0)[None, :]
        b_grad = b_of_joint
        if not HARD:
            b_above = b_own - tl.sum(b_share * b_own, 0)[None, :]
            b_other -= tl.sum(b_share * b_other, 0)[None, :]
            b_grad = b_of_joint + tau * (b_of_joint * b_above + b_of_marginal * b_other)
        tl.store(p_grad + o_own, b_share * b_grad, m_s)
        tl.store(p_grad + o_other, b_share * b_of_marginal, m_s)
    else:
        tl.store(p_joint + image * N + o_n, -tl.sum(b_share * b_own, 0), m_n)
        tl.store(p_marginal + source * N + o_n, tl.sum(b_share * b_other, 0), m_n)


def pair_terms(scores: torch.Tensor, partner: torch.Tensor, tau: float, hard: bool) -> torch.Tensor:
    """See `_reference.pair_terms`; scores are contiguous, float32 or float64."""
    terms = scores.new_empty((2, scores.shape[0], scores.shape[2]))
    _launch(scores, partner, tau, hard, terms, None)
    return terms


def pair_terms_back(
    of_terms: torch.Tensor, scores: torch.Tensor, partner: torch.Tensor, tau: float, hard: bool
) -> torch.Tensor:
    """See `_reference.pair_terms_back`; all are contiguous, float32 or float64."""
    grad = torch.empty_like(scores)
    _launch(scores, partner, tau, hard, of_terms, grad)
    return grad


def _launch(
    scores: torch.Tensor,
    partner: torch.Tensor,
    tau: float,
    hard: bool,
    terms: torch.Tensor,
    grad: torch.Tensor | None,
) -> None:
    batch, rows, pixels = scores.shape
    block_k = max(2, triton.next_power_of_2(rows // 2))
    block_n = max(32, 2048 // block_k)
    with torch.cuda.device_of(scores):
        pair_terms_kernel[(batch * triton.cdiv(pixels, block_n),)](
            scores,
            partner,
            _number(tau, scores.dtype, scores.device),
            *terms,
            scores if grad is None else grad,
            rows // 2,
            pixels,
            HARD=hard,
            BACK=grad is not None,
            BLOCK_K=block_k,
            BLOCK_N=block_n,
            num_warps=4,
            enable_fp_fusion=True,
        )


# As an argument it would be rounded to float32. Without a limit, since a captured CUDA graph keeps
# the address: an evicted number would be freed.
@cache
def _number(value: float, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.full((1,), value, dtype=dtype, device=device)
