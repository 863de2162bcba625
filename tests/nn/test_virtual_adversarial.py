"""virtual_adversarial."""

import copy

import pytest
import torch
from torch import nn

from fastseg import kl_consistency, virtual_adversarial

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

HALVES = [torch.float16, torch.bfloat16]


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


class Counting(nn.Module):
    """A model with batch norm that counts its passes and remembers what it saw."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 4, 1)
        self.double()
        self.seen: list[torch.Tensor] = []

    def forward(self, x, shift=0.0):
        self.seen.append(x.detach())
        return self.last(self.norm(self.first(x)).tanh()) + shift


def gradients(model):
    return [p.grad for p in model.parameters() if p.grad is not None]


def running_mean(model):
    return model.state_dict()["norm.running_mean"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def norms(x):
    return x.flatten(1).norm(dim=1)


def test_adversarial_by_hand():
    """A linear model of two classes: r is along the difference of their weights."""
    model = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 0], [0, 4]]))
    x = torch.tensor([[0.5, -0.25]], dtype=torch.float64)
    loss = virtual_adversarial(model, x, xi=1e-3, epsilon=0.5, generator=seeded())
    r = 0.5 * torch.tensor([3.0, -4]) / 5
    candidates = [kl_consistency(model(x), model(x + s * r)).item() for s in (1, -1)]
    assert any(loss.item() == pytest.approx(value, rel=1e-6) for value in candidates)


def test_adversarial_follows_the_recipe():
    """Three passes with a target at hand, four without; trial norm ξ, final norm ε."""
    model, x = Counting(), random(5, 3, 6, 7)
    target = model(x)
    model.seen.clear()
    loss = virtual_adversarial(model, x, target, generator=seeded())
    trial, final = (seen - x for seen in model.seen)
    assert torch.allclose(norms(trial), torch.tensor(10.0).double())
    assert torch.allclose(norms(final), torch.tensor(0.25).double())
    d = torch.randn(x.shape, generator=seeded()).double()
    assert torch.allclose(trial, 10 * d / norms(d).view(-1, 1, 1, 1))
    # The direction is the gradient's at the trial.
    probe = trial.clone().requires_grad_()
    kl = kl_consistency(target, model(x + probe))
    g = torch.autograd.grad(kl, probe)[0]
    assert torch.allclose(final, 0.25 * g / norms(g).view(-1, 1, 1, 1), atol=1e-12)
    assert loss.item() == pytest.approx(kl_consistency(target, model(x + final)).item())
    model.seen.clear()
    virtual_adversarial(model, x)
    assert len(model.seen) == 3
    model.seen.clear()
    virtual_adversarial(model, x, target, iterations=3)
    assert len(model.seen) == 4


def test_adversarial_noise_does_more_than_random_noise():
    model, x = Counting().eval(), random(8, 3, 6, 7)
    worst = virtual_adversarial(model, x, xi=1e-2, iterations=4, generator=seeded())
    for seed in range(5):
        noise = random(*x.shape, seed=seed + 10)
        noise *= 0.25 / norms(noise).view(-1, 1, 1, 1)
        assert kl_consistency(model(x), model(x + noise)) < worst / 2


@pytest.mark.parametrize("training", [True, False])
def test_adversarial_leaves_the_model_as_it_was(training):
    model, x = Counting().train(training), random(5, 3, 6, 7)
    before = copy.deepcopy(model.state_dict())
    loss = virtual_adversarial(model, x)
    assert not gradients(model)
    loss.backward()
    assert len(gradients(model)) == len(list(model.parameters()))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training == model.norm.training == training
    model(x)  # tracks again
    assert torch.equal(running_mean(model), before["norm.running_mean"]) != training


def test_adversarial_passes_normalise_by_the_batch_in_training():
    model, x = Counting(), random(5, 3, 6, 7)
    target = model(x).detach()
    loss = virtual_adversarial(model, x, target, epsilon=0)
    assert loss.item() == pytest.approx(0, abs=1e-12)


def test_the_model_tracks_again_after_an_error():
    model = Counting()
    with pytest.raises(RuntimeError):
        virtual_adversarial(model, random(2, 5, 6, 7))  # not its number of channels
    assert model.norm.track_running_stats


def test_adversarial_takes_further_inputs_weights_and_seeds():
    model, x = Counting(), random(4, 3, 6, 7)
    shift = torch.tensor([3.0, 0, 0, 0], dtype=torch.float64).view(4, 1, 1)
    with_shift = virtual_adversarial(model, x, inputs=(shift,), generator=seeded())
    assert with_shift != virtual_adversarial(model, x, generator=seeded())
    assert with_shift == virtual_adversarial(model, x, inputs=(shift,), generator=seeded())
    torch.manual_seed(0)
    first = virtual_adversarial(model, x)
    assert first != virtual_adversarial(model, x)
    torch.manual_seed(0)
    assert first == virtual_adversarial(model, x)
    weights = torch.zeros(4, 6, 7)
    assert virtual_adversarial(model, x, weights=weights) == 0
    weights[1] = 1
    model.seen.clear()
    virtual_adversarial(model.eval(), x, weights=weights)
    moved = norms(model.seen[-1] - x)  # those that count
    assert moved.tolist() == pytest.approx([0, 0.25, 0, 0])


def test_adversarial_starts_where_it_is_told():
    model, x = Counting(), random(4, 3, 6, 7)
    drawn = virtual_adversarial(model, x, generator=seeded())
    d = torch.randn(x.shape, generator=seeded())
    assert virtual_adversarial(model, x, direction=d) == drawn
    assert virtual_adversarial(model, x, direction=7 * d).item() == pytest.approx(drawn.item())
    # Each sample goes its own way, whatever the others are.
    model.eval()
    model.seen.clear()
    for part in (slice(None), slice(1, 3)):
        virtual_adversarial(model, x[part], direction=d[part])
    assert torch.allclose(model.seen[2][1:3], model.seen[5])


def test_adversarial_without_any_gradient_moves_nothing():
    """A model that does not depend on x: r is 0, not NaN."""
    model = Counting().eval()
    with torch.no_grad():
        model.first.weight.zero_()
    loss = virtual_adversarial(model, random(2, 3, 6, 7))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert all(g.isfinite().all() for g in gradients(model))


def test_small_gradients_keep_their_direction():
    model, x = Counting().float().eval(), random(2, 3, 6, 7, dtype=torch.float32)
    with torch.no_grad():
        model.first.weight *= 1e-25  # the square of its gradient is 0
    virtual_adversarial(model, x, xi=1e25)
    assert torch.allclose(norms(model.seen[-1] - x), torch.tensor(0.25), rtol=1e-3)


@pytest.mark.parametrize("dtype", HALVES)
def test_adversarial_under_autocast(dtype):
    model, x = Counting().float(), random(4, 3, 6, 7, dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        loss = virtual_adversarial(model, x, generator=seeded())
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss > 0
    assert all(g.isfinite().all() for g in gradients(model))
    plain = virtual_adversarial(model, x, generator=seeded())
    assert loss.item() == pytest.approx(plain.item(), rel=0.3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")  # likewise
def test_adversarial_of_a_compiled_model():
    model, x = Counting(), random(4, 3, 6, 7)
    expected = virtual_adversarial(model, x, generator=seeded())
    compiled = torch.compile(model, backend="aot_eager")
    assert isinstance(compiled, nn.Module)
    mean = running_mean(model).clone()
    assert torch.allclose(virtual_adversarial(compiled, x, generator=seeded()), expected)
    assert torch.equal(running_mean(model), mean)


# --- Bad input ---------------------------------------------------------------------------------

P = torch.full((4, 3), 1 / 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": len}, TypeError, "`model` must be a torch.nn.Module, got builtin_function"),
        ({"x": [1.0]}, TypeError, "`x` must be a torch.Tensor, got list"),
        ({"x": P.half()}, TypeError, "`x` must be float32 or float64, got float16"),
        ({"x": P[0]}, ValueError, r"`x` must have a batch axis and others, got shape \(3,\)"),
        ({"target": P[0]}, ValueError, r"`target` must have its classes, .* got shape \(3,\)"),
        ({"target": P[:2]}, ValueError, r"`logits` must have shape \(2, 3\), got \(4, 3\)"),
        ({"epsilon": -1}, ValueError, "`epsilon` must be finite and at least 0, got -1"),
        ({"xi": 0}, ValueError, "`xi` must be finite and greater than 0, got 0"),
        ({"iterations": 0}, ValueError, "`iterations` must be an integer of at least 1, got 0"),
        ({"generator": 3}, TypeError, "`generator` must be a torch.Generator or None, got int"),
        ({"direction": P[:2]}, ValueError, r"`direction` must have shape \(4, 3\), got \(2, 3\)"),
    ],
)
def test_what_adversarial_refuses(change, error, message):
    with pytest.raises(error, match=message):
        virtual_adversarial(**{"model": nn.Linear(3, 3), "x": P, **change})
