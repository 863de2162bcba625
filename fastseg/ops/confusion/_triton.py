"""Counts of pairs of labels on a GPU, one launch: a program counts some pixels in shared memory and
adds its counts to the result, by atomics on integers, whose order does not matter."""

import torch
import triton
import triton.language as tl

# Programs that fill a card of 132 multiprocessors a few times over.
PROGRAMS = 1024
# Counts that a program keeps; with more, each pixel is added to the result at once.
MOST_BINS = 2048


@triton.jit
def confusion_kernel(
    p_pred,  # (N,)
    p_target,  # (N,)
    p_counts,  # (K·C + 2,) int64
    pixels,
    clusters,
    classes,
    ignored,
    steps,  # of BLOCK pixels that a program counts
    BINS: tl.constexpr,  # a power of 2, more than the counts; 0: there are too many
    BLOCK: tl.constexpr,
):
    """Pixels [i·steps·BLOCK, (i+1)·steps·BLOCK) for program i."""
    pairs = clusters * classes
    start = tl.program_id(0).to(tl.int64) * steps * BLOCK
    b_counts = tl.zeros((BINS if BINS else 2,), tl.int32)
    for step in range(steps):
        o_n = start + step * BLOCK + tl.arange(0, BLOCK)
        m_n = o_n < pixels
        b_pred = tl.load(p_pred + o_n, m_n, 0).to(tl.int64)
        b_target = tl.load(p_target + o_n, m_n, 0).to(tl.int64)
        m_n = m_n & (b_pred >= 0) & (b_target >= 0) & (b_target != ignored)
        b_slot = tl.where(b_target < classes, b_pred * classes + b_target, pairs + 1)
        b_slot = tl.where(b_pred < clusters, b_slot, pairs).to(tl.int32)
        if BINS:
            b_counts += tl.histogram(b_slot, BINS, m_n)
        else:
            tl.atomic_add(p_counts + b_slot, tl.full((BLOCK,), 1, tl.int64), m_n, sem="relaxed")
    if BINS:
        o_bin = tl.arange(0, BINS)
        m_bin = (o_bin < pairs + 2) & (b_counts > 0)
        tl.atomic_add(p_counts + o_bin, b_counts.to(tl.int64), m_bin, sem="relaxed")


def confusion(
    pred: torch.Tensor, target: torch.Tensor, num_clusters: int, num_classes: int, ignore_index: int
) -> torch.Tensor:
    """See `_reference.confusion`."""
    pred, target = pred.reshape(-1).contiguous(), target.reshape(-1).contiguous()
    counts = torch.zeros(num_clusters * num_classes + 2, dtype=torch.int64, device=pred.device)
    if pred.numel() == 0:
        return counts
    bins = triton.next_power_of_2(len(counts))
    block = 2048
    blocks = triton.cdiv(pred.numel(), block)
    steps = triton.cdiv(blocks, PROGRAMS)
    with torch.cuda.device_of(pred):
        confusion_kernel[(triton.cdiv(blocks, steps),)](
            pred,
            target,
            counts,
            pred.numel(),
            num_clusters,
            num_classes,
            ignore_index,
            steps,
            BINS=max(bins, 32) if bins <= MOST_BINS else 0,
            BLOCK=block,
            num_warps=8,
            enable_fp_fusion=True,  # there is none; unset, Triton warns
        )
    return counts
