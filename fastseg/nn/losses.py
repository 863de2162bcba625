"""The losses of InMARS (Mirsadeghi et al., "Unsupervised Image Segmentation by Mutual Information
Maximization and Adversarial Regularization", RA-L 2021), in nats.

The class axis is 1, as in `torch.nn.functional.cross_entropy`: (N,K) of samples or regions,
(B,K,H,W) of pixels.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..checks import (
    check_dtype,
    check_generator,
    check_int,
    check_number,
    check_same_device,
    check_shape,
    check_tensor,
)
from ..distributed import sum_over

__all__ = [
    "Entropies",
    "class_entropies",
    "frozen_statistics",
    "kl_consistency",
    "mutual_information",
    "virtual_adversarial",
]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Below it probabilities count as it in logarithms, so that gradients stay finite.
LEAST = 2.0**-52


class Entropies(NamedTuple):
    """The two sides of the mutual information I(X;Y) = H(Y) − H(Y|X); scalars."""

    marginal: torch.Tensor  #: H(Y)
    conditional: torch.Tensor  #: H(Y|X)


def _check_classes(name: str, x: torch.Tensor) -> None:
    check_tensor(name, x)
    check_dtype(name, x, FLOATS)
    if x.ndim < 2 or x.shape[1] == 0:
        raise ValueError(
            f"`{name}` must have its classes, at least one, along axis 1, "
            f"got shape {tuple(x.shape)}"
        )


def _check_weights(weights: torch.Tensor | None, name: str, x: torch.Tensor) -> None:
    if weights is not None:
        check_tensor("weights", weights)
        check_dtype("weights", weights, (torch.bool, *FLOATS))
        check_shape("weights", weights, (x.shape[0], *x.shape[2:]))
        check_same_device("weights", weights, name, x)


def _widened(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _log(p: torch.Tensor) -> torch.Tensor:
    return p.clamp(min=LEAST).log()


def _over(total: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """total ÷ weight, and 0 where nothing has weight."""
    return torch.where(weight > 0, total / torch.where(weight > 0, weight, 1), 0)


# --- Mutual information ------------------------------------------------------------------------


def class_entropies(
    p: torch.Tensor,
    prior: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    group: Any = None,
) -> Entropies:
    """Entropy of the mean prediction and mean entropy of the predictions (InMARS, Eq. 2, 3).

        p̄ = 1/N·Σ_j p_j,  H(Y) = h(p̄),  H(Y|X) = 1/N·Σ_j h(p_j),  h(p) = −Σ_k p_k ln p_k

    With a prior q, H(Y) becomes ln K − KL(p̄ ‖ q), which a uniform q leaves as it is. InMARS
    minimises H(Y|X) − γH(Y). Differentiable in `p`, `prior` and `weights`; finite for zeros, too,
    with gradients that are finite.

    Args:
        p: (N,K) or (B,K,…), float: probabilities along axis 1, taken as they are: it is for the
            caller that they sum to 1. Half precision is computed in float32.
        prior: q, (K,), positive, such as counts; it is divided by its sum.
        weights: (N,) or (B,…), bool or float ≥ 0: how much each prediction counts in both means.
            What has weight 0, an empty region or an invalid pixel, may hold anything.
        group: a `torch.distributed` group (`torch.distributed.group.WORLD` for all ranks), over
            which the means are taken: every rank then gets the entropies of the whole batch, and
            DistributedDataParallel, which averages gradients, that batch's gradient.

    Returns:
        H(Y) and H(Y|X), float64 if `p` is, else float32. Both are 0, and their gradients, if
        nothing has weight.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    _check_classes("p", p)
    _check_weights(weights, "p", p)
    classes = p.shape[1]
    if prior is not None:
        check_tensor("prior", prior)
        check_dtype("prior", prior, FLOATS)
        check_shape("prior", prior, (classes,))
        check_same_device("prior", prior, "p", p)
    p = _widened(p)
    if weights is None:
        each, weight = p, p.new_full((1,), p.numel() // classes)
    else:
        p = p.masked_fill((weights == 0).unsqueeze(1), 0)
        weights = weights.to(p.dtype)
        each, weight = p * weights.unsqueeze(1), weights.sum()[None]
    axes = (0, *range(2, p.ndim))
    parts = each.sum(axes), -(each * _log(p)).sum()[None], weight
    marginal, conditional, weight = sum_over(torch.cat(parts), group).split((classes, 1, 1))
    mean = _over(marginal, weight)
    entropy = -(mean * _log(mean)).sum()
    if prior is not None:
        prior = prior.to(p.dtype)
        cross = -(mean * _log(prior / prior.sum())).sum()
        entropy = torch.where(weight[0] > 0, math.log(classes) - cross + entropy, 0)
    return Entropies(entropy, _over(conditional, weight)[0])


def mutual_information(
    p: torch.Tensor,
    prior: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    group: Any = None,
) -> torch.Tensor:
    """Mutual information of the inputs and their predicted classes, to be maximised (InMARS,
    Eq. 1–3).

        I(X;Y) = H(Y) − H(Y|X)

    Between 0 and ln K where predictions sum to 1 and there is no prior; a prior may make it
    negative. `class_entropies` gives the two sides, for a loss that weighs them.

    Args:
        p, prior, weights, group: as in `class_entropies`.

    Returns:
        A scalar, float64 if `p` is, else float32.

    Raises:
        TypeError, ValueError: an argument is not as in `class_entropies`.
    """
    marginal, conditional = class_entropies(p, prior, weights, group)
    return marginal - conditional


# --- Consistency -------------------------------------------------------------------------------


def _divergence(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """KL(softmax(target) ‖ softmax(logits)) of each prediction, `target` a constant."""
    log_p, log_q = (_widened(x).log_softmax(1) for x in (target.detach(), logits))
    return (log_p.exp() * (log_p - log_q)).sum(1)


def kl_consistency(
    target: torch.Tensor,
    logits: torch.Tensor,
    weights: torch.Tensor | None = None,
    group: Any = None,
) -> torch.Tensor:
    """Divergence of the predictions of a transformed input from the original's (InMARS, Eq. 4).

        mean over predictions of KL(p ‖ q) = Σ_k p_k(ln p_k − ln q_k),
        p = softmax(target), q = softmax(logits)

    `target` is a constant: the gradient goes to `logits` only. With T a geometrical transformation,
    and the labels of the regions transformed alike, this is R_geo.

    Args:
        target: (N,K) or (B,K,…), float: finite scores, before softmax, of the original x. Half
            precision is computed in float32.
        logits: likewise, of the transformed T(x), prediction on prediction.
        weights: (N,) or (B,…), bool or float ≥ 0: how much each prediction counts in the mean. What
            has weight 0 may hold anything.
        group: as in `class_entropies`.

    Returns:
        A scalar, float64 if `target` or `logits` is, else float32; 0 if nothing has weight.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    _check_classes("target", target)
    _check_classes("logits", logits)
    check_shape("logits", logits, tuple(target.shape))
    check_same_device("logits", logits, "target", target)
    _check_weights(weights, "target", target)
    if weights is None:
        each = _divergence(target, logits)
        total, weight = each.sum(), each.new_full((), each.numel())
        return _over(*sum_over(torch.stack((total, weight)), group))
    out = (weights == 0).unsqueeze(1)
    each = _divergence(target.masked_fill(out, 0), logits.masked_fill(out, 0))
    weights = weights.to(each.dtype)
    return _over(*sum_over(torch.stack(((each * weights).sum(), weights.sum())), group))


# --- Virtual adversarial training --------------------------------------------------------------


@contextmanager
def frozen_statistics(model: torch.nn.Module) -> Iterator[None]:
    """Batch norm inside leaves its running statistics alone; in training it uses the batch's."""
    tracking = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    ]
    for module in tracking:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Each sample ÷ its norm over the other axes; zeros stay zeros."""
    axes = tuple(range(1, x.ndim))
    largest = x.abs().amax(axes, keepdim=True)  # divided by first: squares of small ones vanish
    x = x / torch.where(largest > 0, largest, 1)
    norm = torch.linalg.vector_norm(x, dim=axes, keepdim=True)
    return x / torch.where(norm > 0, norm, 1)


def virtual_adversarial(
    model: torch.nn.Module,
    x: torch.Tensor,
    target: torch.Tensor | None = None,
    inputs: Sequence[Any] = (),
    weights: torch.Tensor | None = None,
    epsilon: float = 0.25,
    xi: float = 10.0,
    iterations: int = 1,
    generator: torch.Generator | None = None,
    direction: torch.Tensor | None = None,
    group: Any = None,
) -> torch.Tensor:
    """Divergence of the predictions under the small perturbation that changes them most: R_adv
    (InMARS, Eq. 4, 5; Miyato et al., "Virtual Adversarial Training", TPAMI 2018).

        d ~ N(0,1), and `iterations` times: d ← d/‖d‖, g = ∇_d KL(p(x) ‖ p(x + ξd)), d ← g
        r = ε·d/‖d‖,  loss = KL(p(x) ‖ p(x + r))

    Norms are of each sample, over all its axes. p(x) and r are constants: the gradient goes to the
    model through p(x + r) alone. In the passes made here batch norm leaves its running statistics
    alone; while training it normalises by those of the batch, as ever.

    Args:
        model: called as `model(x, *inputs)`; gives scores before softmax, classes along axis 1.
            Gradients are taken for `x` alone, so `.grad` of its parameters stays as it is.
        x: (B,…), float32 or float64: the batch, such as images (B,C,H,W). Half precision would
            round r away; the model itself may run under autocast.
        target: what `model(x, *inputs)` gave, if it is at hand; else one pass without gradient
            finds it. It serves all passes.
        inputs: further arguments of the model, such as superpixels.
        weights: as in `kl_consistency`, of the predictions.
        epsilon: ε ≥ 0, the norm of the perturbation, in the units of `x`.
        xi: ξ > 0, the norm of the trial perturbation.
        iterations: of the power method.
        generator: draws d; PyTorch's own if not given.
        direction: the first d, like `x`, in place of one that is drawn.
        group: as in `class_entropies`; the power method stays with each rank's own samples.

    Returns:
        A scalar, float64 if the scores are, else float32.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    check_tensor("x", x)
    check_dtype("x", x, (torch.float32, torch.float64))
    if x.ndim < 2:
        raise ValueError(f"`x` must have a batch axis and others, got shape {tuple(x.shape)}")
    check_number("epsilon", epsilon, 0)
    check_number("xi", xi, 0, exclusive=True)
    check_int("iterations", iterations, 1)
    check_generator("generator", generator)
    x = x.detach()
    if direction is None:
        place = x.device if generator is None else generator.device
        direction = torch.randn(x.shape, generator=generator, device=place)
    else:
        check_tensor("direction", direction)
        check_shape("direction", direction, tuple(x.shape))
    d = direction.detach().to(x)
    with frozen_statistics(model):
        if target is None:
            with torch.no_grad():
                target = model(x, *inputs)
        _check_classes("target", target)
        count = target.numel() // target.shape[1]
        with torch.enable_grad():
            for _ in range(iterations):
                d = _unit(d).requires_grad_()
                trial = model(x + xi * d, *inputs)
                # Of the sum, for that of a mean may vanish in half precision.
                far = kl_consistency(target, trial, weights) * count
                d = torch.autograd.grad(far, d)[0]
        r = epsilon * _unit(d)
        return kl_consistency(target, model(x + r, *inputs), weights, group)
