"""pair_terms, of which infoseg_loss is made where there is a kernel."""

import pytest
import torch

from fastseg import infoseg_loss
from fastseg.ops.scoring import _pairs
from fastseg.ops.scoring._draw import derangement

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")


def problem(batch=3, classes=4, pixels=5):
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn((batch, 2 * classes, pixels), generator=rng, dtype=torch.float64)
    return scores.requires_grad_(), derangement(batch, rng, torch.device("cpu"))


@pytest.mark.parametrize("hard", [False, True])
def test_it_is_a_sound_operator_with_gradients_of_any_order(hard):
    scores, source = problem()
    turned = scores.detach().mT.contiguous().mT.requires_grad_()
    for x in (scores, turned):
        options = source, 0.8, hard, "reference"
        torch.library.opcheck(torch.ops.fastseg.pair_terms.default, (x, *options))
    terms = lambda scores: _pairs.pair_terms(scores, source, 0.8, hard)  # noqa: E731
    torch.autograd.gradcheck(terms, scores)
    torch.autograd.gradgradcheck(terms, scores)


@pytest.mark.parametrize("estimator", ["jsd", "dv"])
@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_the_loss_is_the_same_with_it(estimator, assignment, monkeypatch):
    rng = torch.Generator().manual_seed(0)
    local, glob = (
        torch.randn(shape, generator=rng, dtype=torch.float64, requires_grad=True)
        for shape in ((5, 6, 3, 4), (5, 3, 6))
    )

    def run():
        seeded = torch.Generator().manual_seed(1)
        loss = infoseg_loss(local, glob, 0.8, estimator, assignment, seeded)
        return loss, *torch.autograd.grad(loss, (local, glob))

    expected = run()
    monkeypatch.setattr(_pairs, "DEVICES", ("cpu",))
    for one, other in zip(run(), expected, strict=True):
        torch.testing.assert_close(one, other)
