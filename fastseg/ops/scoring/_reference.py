"""The objectives as their papers write them: their definition, and the benchmarks' baseline."""

import math

import torch
import torch.nn.functional as F


def local_global_scores(local: torch.Tensor, glob: torch.Tensor) -> torch.Tensor:
    """⟨L[b,:,i,j], H[b,k]⟩: (B,P,U,V), (B,K,P) → (B,K,U,V)."""
    return torch.einsum("bpuv,bkp->bkuv", local, glob)


def infoseg_loss(
    local: torch.Tensor,
    glob: torch.Tensor,
    partner: torch.Tensor,
    tau: float,
    estimator: str,
    assignment: str,
) -> torch.Tensor:
    """−Î(L;S), the assigned features S (B,P,U,V) stored; image b is paired with `partner[b]`."""
    share = _share(local_global_scores(local, glob), tau, assignment == "hard")
    assigned = torch.einsum("bkuv,bkp->bpuv", share, glob)
    joint = (local * assigned).sum(1)
    marginal = (local * assigned[partner]).sum(1)
    if estimator == "jsd":
        return F.softplus(-joint).mean() + F.softplus(marginal).mean()
    return (marginal.exp().mean(0).log() - joint.mean(0)).mean()


def info_nce(
    y: torch.Tensor, y2: torch.Tensor, at: torch.Tensor, at2: torch.Tensor
) -> torch.Tensor:
    """−log(e^f(l,l') ÷ mean of e^f over the pairs), every pair scored: a mean over anchors."""
    anchors, keys = y.flatten(2)[..., at], y2.flatten(2)[..., at2]  # (B,C,S)
    batch, _, count = anchors.shape
    scores = torch.einsum("acs,bct->asbt", anchors, keys)
    positive = torch.einsum("acs,acs->as", anchors, keys)
    own = torch.eye(batch, dtype=torch.bool, device=y.device)[:, None, :, None]
    negatives = scores.masked_fill(own, -math.inf).flatten(2)
    pairs = torch.cat((positive[..., None], negatives), 2)
    return (pairs.logsumexp(2) - math.log((batch - 1) * count + 1) - positive).mean()


def pair_terms(scores: torch.Tensor, partner: torch.Tensor, tau: float, hard: bool) -> torch.Tensor:
    """See `_pairs.pair_terms`."""
    own, others = scores.chunk(2, 1)
    share = _share(own, tau, hard)
    return torch.stack((-(share * own).sum(1), (share[partner] * others).sum(1)))


def pair_terms_back(
    grad: torch.Tensor, scores: torch.Tensor, partner: torch.Tensor, tau: float, hard: bool
) -> torch.Tensor:
    """The gradient of the scores from that of both terms (2,B,N); differentiable."""
    source = partner.argsort()  # whose partner each is: `partner` is a permutation
    own, others = scores.chunk(2, 1)
    share, others = _share(own, tau, hard), others[source]
    of_own, of_others = -grad[0][:, None], grad[1][source][:, None]
    if not hard:
        above, beyond = (x - (share * x).sum(1, keepdim=True) for x in (own, others))
        of_own = of_own + tau * (of_own * above + of_others * beyond)
    return torch.cat((share * of_own, (share * of_others)[partner]), 1)


def _share(scores: torch.Tensor, tau: float, hard: bool) -> torch.Tensor:
    if hard:
        classes = scores.shape[1]
        return F.one_hot(scores.argmax(1), classes).movedim(-1, 1).to(scores.dtype)
    return (tau * scores).softmax(1)
