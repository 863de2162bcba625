"""pair_terms and wide_product, of which infoseg_loss is made on a GPU."""

import math

import pytest
import torch

from fastseg import infoseg_loss, local_global_scores
from fastseg.ops.scoring import _pairs
from fastseg.ops.scoring._draw import derangement
from fastseg.ops.scoring.api import _unweighted, loss_of_pairs
from tests.ops.scores import gradients, random, relative_error

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")


def problem(batch=3, classes=4, pixels=5):
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn((batch, 2 * classes, pixels), generator=rng, dtype=torch.float64)
    return scores.requires_grad_(), derangement(batch, rng, torch.device("cpu"))


@pytest.mark.parametrize("hard", [False, True])
def test_it_is_a_sound_operator_with_gradients_of_any_order(hard):
    scores, partner = problem()
    turned = scores.detach().mT.contiguous().mT.requires_grad_()
    for x in (scores, turned):
        options = partner, 0.8, hard, "reference"
        torch.library.opcheck(torch.ops.fastseg.pair_terms.default, (x, *options))
    terms = lambda scores: _pairs.pair_terms(scores, partner, 0.8, hard)  # noqa: E731
    torch.autograd.gradcheck(terms, scores)
    torch.autograd.gradgradcheck(terms, scores)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("estimator", ["jsd", "dv"])
@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_the_loss_is_the_same_with_it(estimator, assignment, weighted, monkeypatch):
    inputs = random(5, 6, 3, 4, dtype=torch.float64), random(5, 3, 6, seed=1, dtype=torch.float64)
    weights = random(5, 3, 4, seed=2, dtype=torch.float64).exp() if weighted else None

    def loss(local, glob):
        seeded = torch.Generator().manual_seed(1)
        return infoseg_loss(local, glob, 0.8, estimator, assignment, seeded, weights)

    def run():
        given = [x.clone().requires_grad_() for x in inputs]
        value = loss(*given)
        return value, *gradients(value, *given)

    expected = run()
    monkeypatch.setattr(_pairs, "DEVICES", ("cpu",))
    for one, other in zip(run(), expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.autograd.gradgradcheck(loss, [x.requires_grad_() for x in inputs], fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [-85.0, -50.0, -1.0, 0.0, 1.0, 50.0, 85.0])
def test_both_ends_of_its_softplus(t, dtype):
    """sp(−t) = e⁻ᵗ for large t, which 1 + e⁻ᵗ loses; sp(t) = t."""
    terms = torch.tensor([[t]], dtype=dtype)
    loss = _unweighted(torch.stack((-terms, -terms)), "jsd").item()
    expected = 2 * (math.log1p(math.exp(-t)) if t > 0 else math.log1p(math.exp(t)) - t)
    assert loss == pytest.approx(expected, rel=4 * torch.finfo(dtype).eps, abs=0)


# --- bfloat16 ----------------------------------------------------------------------------------


def low(*shape, seed=0):
    return random(*shape, seed=seed, dtype=torch.bfloat16).requires_grad_()


def test_the_wide_product_is_a_sound_operator():
    a, b = low(3, 4, 6), low(3, 6, 5)
    turned = low(3, 5, 6).detach().mT.requires_grad_()
    for other in (b, turned):
        torch.library.opcheck(torch.ops.fastseg.wide_product.default, (a, other))


def test_scores_of_bfloat16_lose_nothing(monkeypatch):
    local, glob = low(2, 64, 3, 5), low(2, 4, 64, seed=1)
    expected = local_global_scores(local.double(), glob.double())
    monkeypatch.setattr(_pairs, "DEVICES", ("cpu",))
    scores = local_global_scores(local, glob)
    assert scores.dtype == torch.float32
    assert relative_error(scores, expected) < 1e-6


@pytest.mark.parametrize("estimator", ["jsd", "dv"])
def test_the_loss_of_bfloat16_and_its_derivatives(estimator, monkeypatch):
    """The value as in float32; gradients, first and second, rounded a few times."""
    monkeypatch.setattr(_pairs, "DEVICES", ("cpu",))
    inputs = low(4, 32, 3, 5), low(4, 3, 32, seed=1)
    direction = random(*inputs[0].shape, seed=2)

    def run(dtype):
        local, glob = (x.detach().to(dtype).requires_grad_() for x in inputs)
        seeded = torch.Generator().manual_seed(1)
        loss = infoseg_loss(local, glob, 0.1, estimator, generator=seeded)
        of_local, of_glob = torch.autograd.grad(loss, (local, glob), create_graph=True)
        assert of_local.dtype == of_glob.dtype == dtype
        along = (of_local * direction.to(dtype)).sum()
        return loss, of_local, of_glob, *gradients(along, local, glob)

    bounds = 1e-6, *4 * [2 * torch.finfo(torch.bfloat16).eps]
    for part, exact, bound in zip(run(torch.bfloat16), run(torch.float64), bounds, strict=True):
        assert relative_error(part, exact) <= bound


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_the_loss_of_bfloat16_compiles_whole(monkeypatch):
    monkeypatch.setattr(_pairs, "DEVICES", ("cpu",))
    local, glob = low(3, 8, 2, 2), low(3, 2, 8, seed=1)
    partner = torch.tensor([1, 2, 0])

    def run(loss):
        value = loss(local, glob, partner, 0.8, "jsd")
        return value, *gradients(value, local, glob)

    torch.compiler.reset()
    compiled = torch.compile(loss_of_pairs, fullgraph=True, backend="aot_eager")
    for one, other in zip(run(compiled), run(loss_of_pairs), strict=True):
        torch.testing.assert_close(one, other)
