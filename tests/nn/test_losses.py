"""class_entropies, mutual_information and kl_consistency."""

import math
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import class_entropies, kl_consistency, mutual_information

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

HALVES = [torch.float16, torch.bfloat16]
SHAPES = [(1, 1), (7, 3), (2, 5, 4), (3, 4, 5, 6)]


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def probabilities(*shape, seed=0, dtype=torch.float64):
    return random(*shape, seed=seed).mul(2).softmax(1).to(dtype)


def rows(p):
    """Predictions (N,K) as lists."""
    return p.double().movedim(1, -1).reshape(-1, p.shape[1]).tolist()


def entropy(p):
    return -sum(x * math.log(x) for x in p if x > 0)


def entropies_by_hand(p, weights):
    total = sum(weights)
    mean = [
        sum(w * x for w, x in zip(weights, column, strict=True)) / total
        for column in zip(*p, strict=True)
    ]
    conditional = sum(w * entropy(row) for w, row in zip(weights, p, strict=True)) / total
    return entropy(mean), conditional, mean


# --- class_entropies and mutual_information ----------------------------------------------------


def test_entropies_by_hand():
    p = torch.tensor([[1.0, 0], [0.5, 0.5]], dtype=torch.float64)
    marginal, conditional = class_entropies(p)
    assert marginal.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert conditional.item() == pytest.approx(math.log(2) / 2)
    assert mutual_information(p).item() == pytest.approx(marginal.item() - conditional.item())


def test_prior_by_hand():
    """ln K − KL(p̄ ‖ q), which is ln K where the mean is the prior."""
    p = torch.tensor([[1.0, 0], [0.5, 0.5]], dtype=torch.float64)
    counts = torch.tensor([1.0, 3], dtype=torch.float64)
    divergence = 0.75 * math.log(0.75 / 0.25) + 0.25 * math.log(0.25 / 0.75)
    assert class_entropies(p, counts).marginal.item() == pytest.approx(math.log(2) - divergence)
    assert class_entropies(p, counts.flip(0)).marginal.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("weigh", [None, "bool", "float"])
@pytest.mark.parametrize("shape", SHAPES)
def test_entropies_equal_the_definition(shape, weigh):
    p = probabilities(*shape)
    weights = None
    if weigh is not None:
        weights = random(shape[0], *shape[2:], seed=1).abs()
        weights.view(-1)[-1] = 1  # something counts
        weights = weights > 0.7 if weigh == "bool" else weights * (weights > 0.4)
    counted = [1.0] * (p.numel() // shape[1]) if weights is None else weights.double().flatten()
    marginal, conditional, _ = entropies_by_hand(rows(p), [float(w) for w in counted])
    actual = class_entropies(p, weights=weights)
    assert actual.marginal.item() == pytest.approx(marginal, rel=1e-12, abs=1e-14)
    assert actual.conditional.item() == pytest.approx(conditional, rel=1e-12, abs=1e-14)


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 9), st.floats(0, 50))
def test_mutual_information_is_bounded_and_blind_to_names(seed, classes, n, sharpness):
    rng = torch.Generator().manual_seed(seed)
    p = (torch.randn(n, classes, generator=rng, dtype=torch.float64) * sharpness).softmax(1)
    value = mutual_information(p).item()
    assert -1e-12 <= value <= math.log(classes) + 1e-12
    order = torch.randperm(classes, generator=rng)
    prior = torch.rand(classes, generator=rng, dtype=torch.float64) + 0.1
    assert mutual_information(p[:, order]).item() == pytest.approx(value, abs=1e-12)
    with_prior = [mutual_information(p, prior), mutual_information(p[:, order], prior[order])]
    assert with_prior[0].item() == pytest.approx(with_prior[1].item(), abs=1e-12)
    uniform = mutual_information(p, torch.full((classes,), 7.0, dtype=torch.float64))
    assert uniform.item() == pytest.approx(value, abs=1e-12)


def test_certain_and_even_predictions_have_all_the_information():
    p = torch.eye(5).repeat(3, 1)
    assert mutual_information(p).item() == pytest.approx(math.log(5))
    assert mutual_information(p.T[None]).item() == pytest.approx(math.log(5))  # (1,K,N)


@pytest.mark.parametrize("prior", [None, [1.0, 0.0, 2.0]])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_entropies_of_collapsed_predictions_are_finite(dtype, prior):
    p = torch.zeros(4, 3, dtype=dtype)
    p[:, 1] = 1
    q = None if prior is None else torch.tensor(prior)
    for probability in (p, torch.zeros_like(p)):  # one class, and nothing at all
        probability = probability.clone().requires_grad_()
        parts = class_entropies(probability, q)
        gradient = torch.autograd.grad(parts.marginal + parts.conditional, probability)[0]
        assert all(part.isfinite() and part.dtype == torch.float32 for part in parts)
        assert gradient.isfinite().all()
        if prior is None:
            assert [part.item() for part in parts] == [0, 0]


@pytest.mark.parametrize("prior", [None, [1.0, 4.0, 2.0]])
@pytest.mark.parametrize("shape", [(4, 3), (0, 3), (2, 3, 0)])
def test_entropies_of_nothing_are_zero(shape, prior):
    p = torch.full(shape, math.nan, requires_grad=True)
    weights = torch.zeros(shape[0], *shape[2:])
    q = None if prior is None else torch.tensor(prior)
    for weight in (weights, weights.bool()) if p.numel() else (None, weights):
        parts = class_entropies(p, q, weight)
        assert [part.item() for part in parts] == [0, 0]
        gradient = torch.autograd.grad(parts.marginal + parts.conditional, p)[0]
        assert (gradient == 0).all()


def test_what_has_no_weight_may_hold_anything():
    p = probabilities(6, 3)
    kept = torch.tensor([True, False, True, True, False, True])
    spoilt = p.masked_fill(~kept[:, None], math.nan).requires_grad_()
    loss = mutual_information(spoilt, weights=kept)
    assert loss.item() == pytest.approx(mutual_information(p[kept]).item(), rel=1e-14)
    gradient = torch.autograd.grad(loss, spoilt)[0]
    assert gradient[kept].isfinite().all()
    assert (gradient[~kept] == 0).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_summed_in_single(dtype):
    p = probabilities(3, 4, 5, 6, dtype=dtype)
    assert torch.equal(mutual_information(p), mutual_information(p.float()))
    with torch.autocast("cpu", dtype):
        assert torch.equal(mutual_information(p), mutual_information(p.float()))


def test_mutual_information_has_the_gradient_of_its_value():
    p = probabilities(2, 3, 4).requires_grad_()
    prior = random(3, seed=1).exp().requires_grad_()
    weights = random(2, 4, seed=2).exp().requires_grad_()
    torch.autograd.gradcheck(mutual_information, (p, prior, weights))
    torch.autograd.gradgradcheck(mutual_information, (p, prior, weights), fast_mode=True)
    torch.autograd.gradcheck(lambda p: tuple(class_entropies(p)), p)


# --- kl_consistency ----------------------------------------------------------------------------


def test_divergence_by_hand():
    target = torch.tensor([[0.0, math.log(3)], [0, 0]], dtype=torch.float64)  # 1/4, 3/4; 1/2, 1/2
    logits = torch.tensor([[5.0, 5], [0, math.log(3)]], dtype=torch.float64)
    first = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    second = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert kl_consistency(target, logits).item() == pytest.approx((first + second) / 2)
    weights = torch.tensor([3.0, 1])
    loss = kl_consistency(target, logits, weights)
    assert loss.item() == pytest.approx((3 * first + second) / 4)


@given(st.integers(0, 2**32), st.integers(1, 5), st.floats(0, 100))
def test_divergence_is_positive_but_from_itself(seed, classes, sharpness):
    rng = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 3, classes, 4, generator=rng, dtype=torch.float64) * sharpness
    order = torch.randperm(classes, generator=rng)
    loss = kl_consistency(a, b).item()
    assert loss >= -1e-12
    assert kl_consistency(a[:, order], b[:, order]).item() == pytest.approx(loss, abs=1e-12)
    assert kl_consistency(a, a + 3).item() == pytest.approx(0, abs=1e-12)


def test_divergence_has_the_gradient_of_its_value_for_the_second_only():
    target, logits = (random(2, 3, 4, seed=i).requires_grad_() for i in (0, 1))
    weights = random(2, 4, seed=2).exp().requires_grad_()
    torch.autograd.gradcheck(lambda x, w: kl_consistency(target, x, w), (logits, weights))
    (none,) = torch.autograd.grad(
        kl_consistency(target, logits, weights), target, allow_unused=True
    )
    assert none is None


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_divergence_is_finite(dtype):
    """One class against another, as far apart as the dtype goes, and nothing counted."""
    far = 1e4 * torch.tensor([[1.0, -1], [-1, 1], [0, 0]], dtype=dtype)
    logits = far.flip(1).requires_grad_()
    loss = kl_consistency(far, logits)
    assert loss.item() == pytest.approx(2e4 * 2 / 3, rel=0.01)
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()
    spoilt = torch.full_like(far, math.nan).requires_grad_()
    for weights in (torch.zeros(3), torch.zeros(3, dtype=torch.bool)):
        loss = kl_consistency(spoilt, spoilt, weights)
        assert loss == 0
        assert (torch.autograd.grad(loss, spoilt)[0] == 0).all()
    assert kl_consistency(far[:0], far[:0]) == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_losses_compile_whole():
    def loss(x, y):
        marginal, conditional = class_entropies(x.softmax(1), y[0, :, 0].exp(), y[:, 0] > 0)
        return conditional - 0.1 * marginal + kl_consistency(x, y, y[:, 1].exp())

    results = []
    for call in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        x, y = (random(3, 4, 5, seed=i).requires_grad_() for i in (0, 1))
        value = call(x, y)
        results.append((value.detach(), *torch.autograd.grad(value, (x, y))))
    for actual, expected in zip(*results, strict=True):
        assert torch.allclose(actual, expected, rtol=1e-12, atol=1e-14)


# --- Ranks -------------------------------------------------------------------------------------


def predictions(rank, ranks):
    """Uneven shares of one batch, with their weights."""
    logits, weights = random(9, 4), random(9, seed=1).exp()
    return logits[rank::ranks].requires_grad_(), weights[rank::ranks]


def objective(logits, weights, group):
    prior = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    marginal, conditional = class_entropies(logits.softmax(1), prior, weights, group)
    other = logits.flip(1).sin()
    change = kl_consistency(other, logits, weights, group)
    return conditional - 0.3 * marginal + change + kl_consistency(other, logits, group=group)


def work_on_a_share(rank, ranks, file, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{file}", rank=rank, world_size=ranks, timeout=None
    )
    logits, weights = predictions(rank, ranks)
    loss = objective(logits, weights, torch.distributed.group.WORLD)
    loss.backward()
    results[rank] = loss.item(), logits.grad / ranks  # averaged, as over a model's copies
    torch.distributed.destroy_process_group()


def test_ranks_get_the_entropies_of_the_whole_batch():
    logits, weights = predictions(0, 1)
    expected = objective(logits, weights, None)
    expected.backward()
    with torch.multiprocessing.Manager() as manager, tempfile.TemporaryDirectory() as folder:
        results = manager.dict()
        torch.multiprocessing.spawn(work_on_a_share, (2, f"{folder}/store", results), nprocs=2)
        assert len(results) == 2
        for rank, (loss, gradient) in results.items():
            assert loss == pytest.approx(expected.item(), rel=1e-12)
            assert torch.allclose(gradient, logits.grad[rank::2], rtol=1e-12, atol=1e-15)


# --- Bad input ---------------------------------------------------------------------------------

P = torch.full((4, 3), 1 / 3)
Q = torch.ones(3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"p": P.numpy()}, TypeError, "`p` must be a torch.Tensor, got ndarray"),
        ({"p": P.int()}, TypeError, "`p` must be float32 or .*, got int32"),
        ({"p": P[0]}, ValueError, r"`p` must have its classes, .* axis 1, got shape \(3,\)"),
        ({"p": P[:, :0]}, ValueError, r"`p` must have .*at least one, .* got shape \(4, 0\)"),
        ({"prior": [1.0] * 3}, TypeError, "`prior` must be a torch.Tensor, got list"),
        ({"prior": Q.long()}, TypeError, "`prior` must be float32 or .*, got int64"),
        ({"prior": Q[:2]}, ValueError, r"`prior` must have shape \(3\), got \(2,\)"),
        ({"prior": Q.to("meta")}, ValueError, r"`prior` must be on the device of `p` .* got meta"),
        ({"weights": np.ones(4)}, TypeError, "`weights` must be a torch.Tensor, got ndarray"),
        ({"weights": P[:, 0].int()}, TypeError, "`weights` must be bool or .*, got int32"),
        ({"weights": P}, ValueError, r"`weights` must have shape \(4\), got \(4, 3\)"),
        ({"weights": P[:, 0].to("meta")}, ValueError, "`weights` must be on the device of `p`"),
    ],
)
def test_what_entropies_refuse(change, error, message):
    for function in (class_entropies, mutual_information):
        with pytest.raises(error, match=message):
            function(**{"p": P, "prior": Q, "weights": P[:, 0], **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": None}, TypeError, "`target` must be a torch.Tensor, got NoneType"),
        ({"target": P[0]}, ValueError, r"`target` must have its classes, .* got shape \(3,\)"),
        ({"logits": P.bool()}, TypeError, "`logits` must be float32 or .*, got bool"),
        ({"logits": P[:2]}, ValueError, r"`logits` must have shape \(4, 3\), got \(2, 3\)"),
        ({"logits": P.to("meta")}, ValueError, "`logits` must be on the device of `target`"),
        ({"weights": P}, ValueError, r"`weights` must have shape \(4\), got \(4, 3\)"),
    ],
)
def test_what_consistency_refuses(change, error, message):
    with pytest.raises(error, match=message):
        kl_consistency(**{"target": P, "logits": P, **change})
