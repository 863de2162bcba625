"""Public functions of the family, the operator they register, and their checks."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch.library import define, impl, register_autograd, register_fake

from ...checks import (
    check_choice,
    check_dtype,
    check_generator,
    check_int,
    check_ndim,
    check_number,
    check_same_device,
    check_shape,
    check_tensor,
)
from ...distributed import rows_over, sum_over
from . import _pairs
from ._draw import derangement, displaced_positions
from ._product import wide_product

__all__ = ["info_nce", "infoseg_loss", "local_global_scores"]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Scores that `info_nce` holds at a time: few enough for a core's cache, or to fill a GPU.
HELD = {"cpu": 1 << 18, "cuda": 1 << 24}

define("fastseg::info_nce", "(Tensor a, Tensor b, bool grad) -> (Tensor, Tensor of_a, Tensor of_b)")


def _check_features(name: str, x: torch.Tensor, layout: str) -> None:
    check_tensor(name, x)
    check_ndim(name, x, layout)
    check_dtype(name, x, FLOATS)


def _check_batch(name: str, x: torch.Tensor, images: int) -> None:
    """`images`: of all ranks."""
    if images < 2:
        raise ValueError(f"`{name}` must hold at least 2 images, whose pairs are the negatives, "
                         f"got {images}")  # fmt: skip
    if x.numel() == 0:
        raise ValueError(f"`{name}` must not be empty, got shape {tuple(x.shape)}")


def _wide(x: torch.Tensor, other: torch.Tensor) -> torch.dtype:
    """The dtype that two tensors are computed in."""
    return torch.promote_types(torch.promote_types(x.dtype, other.dtype), torch.float32)


# --- local_global_scores -----------------------------------------------------------------------


def _check_scores(local: torch.Tensor, glob: torch.Tensor) -> None:
    _check_features("L", local, "BPUV")
    _check_features("H", glob, "BKP")
    check_shape("H", glob, (local.shape[0], None, local.shape[1]))
    check_same_device("H", glob, "L", local)


def _scores(local: torch.Tensor, glob: torch.Tensor) -> torch.Tensor:
    """⟨L,H_k⟩ of every pixel: (B,P,U,V), (B,K,P) → (B,K,U·V), at least in float32."""
    if local.device.type in _pairs.DEVICES and local.dtype == glob.dtype == torch.bfloat16:
        return wide_product(glob, local.flatten(2))
    dtype = _wide(local, glob)
    with torch.autocast(local.device.type, enabled=False):
        return glob.to(dtype) @ local.to(dtype).flatten(2)


def local_global_scores(L: torch.Tensor, H: torch.Tensor) -> torch.Tensor:
    """Score each local feature against each class's global feature (Harb and Knöbelreiter,
    "InfoSeg", GCPR 2021, §4.2).

        scores[b,k,i,j] = ⟨L[b,:,i,j], H[b,k]⟩

    Its argmax over k is the segmentation, the softmax of τ times it the class probabilities V
    (Eq. 3, 4). Differentiable in `L` and `H`, any number of times.

    Args:
        L: (B,P,U,V), float: a feature of P numbers for each patch. Half precision is copied to
            float32, but where both are bfloat16 on a GPU: their products are exact there too, and
            the gradient of a score is rounded to bfloat16. Autocast changes nothing.
        H: (B,K,P), float: a feature of the whole image for each class.

    Returns:
        (B,K,U,V), float64 if `L` or `H` is, else float32.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    _check_scores(L, H)
    return _scores(L, H).unflatten(2, L.shape[2:])


# --- infoseg_loss ------------------------------------------------------------------------------


def infoseg_loss(
    L: torch.Tensor,
    H: torch.Tensor,
    tau: float = 0.8,
    estimator: str = "jsd",
    assignment: str = "soft",
    generator: torch.Generator | None = None,
    weights: torch.Tensor | None = None,
    group: Any = None,
) -> torch.Tensor:
    """Negative bound of the mutual information between local features and the global feature that
    each is assigned (Harb and Knöbelreiter, "InfoSeg", GCPR 2021, Eq. 3–8), in nats.

        V = softmax_k(τ⟨L,H_k⟩),  S = Σ_k V_k H_k
        t⁺ = ⟨L(x), S(x)⟩ = Σ_k V_k(x)⟨L(x),H_k(x)⟩
        t⁻ = ⟨L(x), S(x')⟩ = Σ_k V_k(x')⟨L(x),H_k(x')⟩,  pixel on pixel
        "jsd":  loss = mean of sp(−t⁺) + mean of sp(t⁻),  sp(t) = ln(1 + eᵗ)
        "dv":   loss = mean over pixels of ln(mean over x of e^t⁻) − mean of t⁺

    Means are over images and pixels where nothing is said; "dv" has the logarithm within the mean
    over pixels, as Eq. 6 has the bound. The image x' of each x is another one of the batch: the
    pairs are one random cycle through all images. S itself, as large as L, is never stored.
    Differentiable in `L` and `H`, also through V, any number of times.

    Args:
        L, H: as in `local_global_scores`, of at least two images.
        tau: τ ≥ 0, the sharpness of the assignment.
        estimator: "jsd", the Jensen-Shannon bound, or "dv", Donsker and Varadhan's.
        assignment: "soft" as above, or "hard" (§5.5): V is 1 for the highest score, of equal ones
            the first, and a constant for the gradient.
        generator: draws the pairs; PyTorch's own if not given.
        weights: (B,U,V), bool or float ≥ 0, constants: how much each patch counts in means; t⁻
            counts w(x)·w(x'), and a pixel of "dv" the sum of its w(x).
        group: a `torch.distributed` group (`torch.distributed.group.WORLD` for all ranks), which
            must all draw the same: pairs and means are then of all ranks' images, every rank gets
            the loss of the whole batch, and DistributedDataParallel, which averages gradients,
            that batch's gradient. Ranks tell each other H, V and t⁻, but not L.

    Returns:
        A scalar, float64 if `L` or `H` is, else float32; 0 if nothing has weight.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    _check_scores(L, H)
    check_number("tau", tau, 0)
    check_choice("estimator", estimator, ("jsd", "dv"))
    check_choice("assignment", assignment, ("soft", "hard"))
    check_generator("generator", generator)
    every, mine = rows_over(H, group)
    _check_batch("L", L, len(every))
    _check_batch("H", H, len(every))
    partner = derangement(len(every), generator, L.device)[mine]
    return loss_of_pairs(L, H, partner, tau, estimator, assignment, weights, group)


def loss_of_pairs(
    L: torch.Tensor,
    H: torch.Tensor,
    partner: torch.Tensor,
    tau: float,
    estimator: str,
    assignment: str = "soft",
    weights: torch.Tensor | None = None,
    group: Any = None,
) -> torch.Tensor:
    """`infoseg_loss` where this rank's images are paired with `partner` (B,) of all ranks'."""
    every, _ = rows_over(H, group)
    # One product reads L once for both kinds of pairs.
    scores = _scores(L, torch.cat((H, every.index_select(0, partner)), 1))
    terms = _pairs.terms(scores, partner, tau, assignment == "hard", group)
    if weights is None and group is None and L.device.type in _pairs.DEVICES:
        return _unweighted(terms, estimator)
    joint, marginal = terms.unbind()
    own = _weights(weights, L, joint)
    pair = own * rows_over(own, group)[0][partner]
    if estimator == "jsd":  # sp(t) = −logsigmoid(−t), exact at both ends
        together = _mean(-F.logsigmoid(-joint), own, group)
        return together + _mean(-F.logsigmoid(-marginal), pair, group)
    bounds = _log_mean_exp(*(rows_over(x, group)[0] for x in (marginal, pair)))
    pixels = rows_over(own, group)[0].sum(0) * (rows_over(pair, group)[0] > 0).any(0)
    return _mean(bounds, pixels) + _mean(joint, own, group)


def _unweighted(terms: torch.Tensor, estimator: str) -> torch.Tensor:
    """The loss where all patches count alike, in as few launches as may be."""
    if estimator == "jsd":  # exact at both ends, as e⁸⁰ is finite and 1 far below its rounding
        return F.softplus(terms, 1, 80).mean((1, 2)).sum()
    joint, marginal = terms.unbind()
    return (marginal.logsumexp(0) - math.log(len(marginal))).mean() + joint.mean()


def _weights(weights: torch.Tensor | None, L: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(B,U·V)."""
    if weights is None:
        return torch.ones_like(like, requires_grad=False)
    check_tensor("weights", weights)
    check_dtype("weights", weights, (torch.bool, *FLOATS))
    check_shape("weights", weights, (L.shape[0], *L.shape[2:]))
    check_same_device("weights", weights, "L", L)
    return weights.detach().flatten(1).to(like.dtype)


def _mean(x: torch.Tensor, weights: torch.Tensor, group: Any = None) -> torch.Tensor:
    total, weight = (x * weights).sum(), weights.sum()
    if group is not None:
        total, weight = sum_over(torch.stack((total, weight)), group)
    return total / torch.where(weight > 0, weight, 1)


def _log_mean_exp(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """ln(mean over rows of eˣ), and something finite where nothing has weight."""
    empty = (weights == 0).all(0)
    weights = torch.where(empty, 1, weights)
    return (x + weights.log()).logsumexp(0) - weights.sum(0).log()


# --- info_nce ----------------------------------------------------------------------------------


def info_nce(
    y: torch.Tensor,
    y2: torch.Tensor,
    positions: int = 64,
    radius: int = 0,
    generator: torch.Generator | None = None,
    group: Any = None,
) -> torch.Tensor:
    """Negative InfoNCE bound of the mutual information between two feature maps (Ouali et al.,
    "Autoregressive Unsupervised Image Segmentation", ECCV 2020, Eq. 7), in nats.

        f(l,m) = ⟨y_l, y2_m⟩
        loss = −mean over anchors l of ln(e^f(l,l+u) ÷ (1/N·Σ_m e^f(l,m)))

    The critic f is separable: `y` = φ₁(·) and `y2` = φ₂(·) come from a small network each. The
    anchors are `positions` pixels drawn without repetition, the same in each image. The positive
    of an anchor is the pixel displaced by u, one draw from the window Ω of −T … T along both axes.
    The sum is over N pairs: this one, and all drawn pixels l+u of the B−1 other images, which makes
    N = (B−1)·positions + 1. The loss is at least −ln N. Differentiable in `y` and `y2`, once.

    Args:
        y: (B,C,H,W), float: the features of one view of at least two images; half precision is
            computed in float32.
        y2: (B,C,H,W), float: those of the other, pixel on pixel.
        positions: pixels drawn from each image, at most (H−T)·(W−T).
        radius: T, the largest displacement along an axis, less than the shorter side.
        generator: makes the draws; PyTorch's own if not given.
        group: as in `infoseg_loss`; ranks tell each other the drawn pixels.

    Returns:
        A scalar, float64 if `y` or `y2` is, else float32.

    Raises:
        TypeError, ValueError: an argument is not as above.
        NotImplementedError: a second derivative is asked for.
    """
    _check_features("y", y, "BCHW")
    _check_features("y2", y2, "BCHW")
    check_shape("y2", y2, tuple(y.shape))
    check_same_device("y2", y2, "y", y)
    height, width = y.shape[2:]
    check_int("radius", radius, 0)
    if radius >= min(height, width):
        raise ValueError(
            f"`radius` must be less than the shorter side of `y` ({min(height, width)}), "
            f"got {radius}"
        )
    check_int("positions", positions, 1)
    most = (height - radius) * (width - radius)
    if positions > most:
        raise ValueError(f"`positions` must be at most (H−T)·(W−T) = {most}, got {positions}")
    check_generator("generator", generator)
    at, at2 = displaced_positions(positions, height, width, radius, generator, y.device)
    return loss_at(y, y2, at, at2, group)


def loss_at(
    y: torch.Tensor, y2: torch.Tensor, at: torch.Tensor, at2: torch.Tensor, group: Any = None
) -> torch.Tensor:
    """`info_nce` of anchors at the pixels `at` (S,), whose positives are at `at2`."""
    drawn = (_drawn(x, i).to(_wide(y, y2)) for x, i in ((y, at), (y2, at2)))
    a, b = (rows_over(x, group)[0] for x in drawn)
    _check_batch("y", y, len(a))
    grad = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    return torch.ops.fastseg.info_nce(a, b, grad)[0]


def _drawn(x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """The pixels at S distinct positions, whose gradients do not meet at one address: (B,S,C)."""
    return x.flatten(2).gather(2, at.expand(*x.shape[:2], -1)).mT


@impl("fastseg::info_nce", ("CPU", "CUDA"))
def _info_nce(a: torch.Tensor, b: torch.Tensor, grad: bool):
    """The mean loss of anchors a (B,S,C) and keys b; where asked, its gradients with it, since
    what they need, N numbers an anchor, is too much to keep."""
    loss, of_a, of_b = _info_nce_fake(a, b, grad)
    batch, count, channels = a.shape
    total = batch * count
    keys = b.reshape(total, channels)
    negative = ~torch.eye(count, dtype=torch.bool, device=a.device)
    step = max(1, HELD[a.device.type] // (total * count))  # images at a time
    loss.fill_(-math.log(total - count + 1))
    of_b.zero_()
    with torch.autocast(a.device.type, enabled=False):
        for first in range(0, batch, step):
            rows = a[first : first + step].reshape(-1, channels)
            image = torch.arange(len(rows) // count, device=a.device)
            scores = (rows @ keys.T).view(-1, count, batch, count)
            own = scores[image, :, first + image]  # a copy: (images, anchors, keys)
            positive = own.diagonal(dim1=1, dim2=2).flatten()
            scores[image, :, first + image] = own.masked_fill(negative, -math.inf)
            scores = scores.view(-1, total)
            norm = scores.logsumexp(1)
            loss += (norm - positive).sum() / total
            if grad:
                softmax = scores.sub_(norm[:, None]).exp_()
                of_a[first : first + step] = (softmax @ keys).view(-1, count, channels)
                of_b.view(keys.shape).addmm_(softmax.T, rows)
    if grad:  # each key is the positive of one anchor
        of_a.sub_(b).div_(total)
        of_b.sub_(a).div_(total)
    return loss, of_a, of_b


@register_fake("fastseg::info_nce")
def _info_nce_fake(a: torch.Tensor, b: torch.Tensor, grad: bool):
    shape = a.shape if grad else (0,)
    return a.new_empty(()), a.new_empty(shape), b.new_empty(shape)


def _keep_info_nce(ctx, inputs, output) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _info_nce_backward(ctx, grad: torch.Tensor, *_):
    if torch.is_grad_enabled():
        raise NotImplementedError("info_nce has no second derivative")
    of_a, of_b = ctx.saved_tensors
    return grad * of_a, grad * of_b, None


register_autograd("fastseg::info_nce", _info_nce_backward, setup_context=_keep_info_nce)
