"""infoseg_loss with weights, and over ranks."""

import math

import pytest
import torch

from fastseg import infoseg_loss
from fastseg.ops.scoring._draw import derangement

pytestmark = pytest.mark.usefixtures("one_thread")

WAYS = [(e, a) for e in ("jsd", "dv") for a in ("soft", "hard")]
BATCH = 5


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem():
    """L, H and weights: patches that do not count, one in no picture and one in but one."""
    weights = random(BATCH, 3, 4, seed=2).exp()
    weights[weights < 0.7] = 0
    weights[:, 0, 0] = 0
    weights[1:, 0, 1] = 0
    weights[0, 0, 1] = 1
    return random(BATCH, 6, 3, 4), random(BATCH, 3, 6, seed=1), weights


def seeded():
    return torch.Generator().manual_seed(3)


def by_hand(local, glob, weights, estimator, assignment):
    """Number by number."""
    partner = derangement(BATCH, seeded(), torch.device("cpu")).tolist()

    def share(b, i, j):
        scores = (glob[b] @ local[b, :, i, j]).tolist()
        if assignment == "hard":
            return [float(s == max(scores)) for s in scores]
        exponentials = [math.exp(0.8 * s) for s in scores]
        return [e / sum(exponentials) for e in exponentials]

    joint, marginal, bounds = [], [], []
    for i in range(3):
        for j in range(4):
            here = []
            for b in range(BATCH):
                w, other = weights[b, i, j].item(), partner[b]
                pair = w * weights[other, i, j].item()
                scores = [(glob[x] @ local[b, :, i, j]).tolist() for x in (b, other)]
                t = [
                    sum(v * s for v, s in zip(share(x, i, j), row, strict=True))
                    for x, row in zip((b, other), scores, strict=True)
                ]
                joint.append((w, t[0]))
                here.append((pair, t[1]))
            marginal += here
            total = sum(w for w, _ in here)
            if total:
                bound = math.log(sum(w * math.exp(t) for w, t in here) / total)
                bounds.append((weights[:, i, j].sum().item(), bound))

    def mean(pairs, f=lambda t: t):
        return sum(w * f(t) for w, t in pairs) / sum(w for w, _ in pairs)

    if estimator == "dv":
        return mean(bounds) - mean(joint)
    return mean(joint, lambda t: math.log1p(math.exp(-t))) + mean(
        marginal, lambda t: math.log1p(math.exp(t))
    )


@pytest.mark.parametrize(("estimator", "assignment"), WAYS)
def test_weights_by_hand(estimator, assignment):
    local, glob, weights = problem()
    loss = infoseg_loss(local, glob, 0.8, estimator, assignment, seeded(), weights)
    expected = by_hand(local, glob, weights, estimator, assignment)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    # What has no weight may be anything, and has no gradient.
    other = local.masked_fill((weights == 0)[:, None], 3).requires_grad_()
    same = infoseg_loss(other, glob, 0.8, estimator, assignment, seeded(), weights)
    assert same.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(same, other)
    assert not gradient.masked_select((weights == 0)[:, None]).any()
    assert gradient.any()


@pytest.mark.parametrize(("estimator", "assignment"), WAYS)
def test_weights_that_are_all_alike_change_nothing(estimator, assignment):
    local, glob, weights = problem()
    way = 0.8, estimator, assignment
    plain = infoseg_loss(local, glob, *way, seeded()).item()
    for alike in (torch.full_like(weights, 0.3), torch.ones_like(weights, dtype=torch.bool)):
        loss = infoseg_loss(local, glob, *way, seeded(), alike)
        assert loss.item() == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize(("estimator", "assignment"), WAYS)
def test_where_nothing_counts_loss_and_gradient_are_zero(estimator, assignment):
    local, glob, weights = problem()
    local.requires_grad_()
    nothing = torch.zeros_like(weights, dtype=torch.bool)
    loss = infoseg_loss(local, glob, 0.8, estimator, assignment, weights=nothing)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, local)[0].any()


@pytest.mark.parametrize(("estimator", "assignment"), WAYS)
def test_weighted_losses_have_the_gradient_of_their_value(estimator, assignment):
    local, glob, weights = problem()

    def loss(local, glob):
        return infoseg_loss(local, glob, 0.8, estimator, assignment, seeded(), weights)

    inputs = local.requires_grad_(), glob.requires_grad_()
    torch.autograd.gradcheck(loss, inputs)
    torch.autograd.gradgradcheck(loss, inputs, fast_mode=True)


# --- Ranks -------------------------------------------------------------------------------------


def both_ways(rows=slice(None), group=None):
    """Losses of a share of the batch, and their gradients."""
    results = []
    for way in WAYS:
        local, glob, weights = (x[rows] for x in problem())
        inputs = local.requires_grad_(), glob.requires_grad_()
        loss = infoseg_loss(*inputs, 0.8, *way, seeded(), weights, group)
        results.append((loss.item(), torch.autograd.grad(loss, inputs)))
    return results


def work_on_a_share(rank, ranks, file, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{file}", rank=rank, world_size=ranks)
    rows = [slice(0, 4), slice(4, 5)][rank]  # one picture alone has no pair on its rank
    results[rank] = both_ways(rows, torch.distributed.group.WORLD)
    torch.distributed.destroy_process_group()


def test_ranks_get_the_loss_of_the_whole_batch(tmp_path):
    with torch.multiprocessing.Manager() as manager:
        shared = manager.dict()
        torch.multiprocessing.spawn(work_on_a_share, (2, tmp_path / "store", shared), nprocs=2)
        first, second = shared[0], shared[1]
    for (loss, gradients), mine, theirs in zip(both_ways(), first, second, strict=True):
        assert mine[0] == pytest.approx(loss, rel=1e-12)
        assert theirs[0] == pytest.approx(loss, rel=1e-12)
        for whole, *halves in zip(gradients, mine[1], theirs[1], strict=True):
            # Averaged, as over a model's copies.
            assert torch.allclose(torch.cat(halves) / 2, whole, rtol=1e-9, atol=1e-12)
