"""The Triton kernel of InfoSeg's bound against the reference: compiled on a GPU, else
interpreted."""

import math

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.compile import recorded
from fastseg import backends, infoseg_loss, local_global_scores
from fastseg.ops.scoring import _pairs, _reference, _triton
from fastseg.ops.scoring._draw import derangement

# Where there is a GPU, all of these need it: `pytest -m gpu` then runs them.
pytestmark = [pytest.mark.gpu] if torch.cuda.is_available() else []
pytestmark += [pytest.mark.usefixtures("poisoned")]

SHAPES = [(2, 1, 1), (3, 5, 130), (2, 70, 33)]  # B, K, N
TAU = 0.8
EPS = {torch.float32: 1e-6, torch.float64: 1e-14}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(shape, dtype, device="cpu"):
    """Scores, the partner of each image, and a gradient of both terms."""
    batch, classes, pixels = shape
    rng = seeded()
    scores = torch.randn((batch, 2 * classes, pixels), generator=rng, dtype=dtype)
    grad = torch.randn((2, batch, pixels), generator=rng, dtype=dtype)
    partner = derangement(batch, rng, torch.device("cpu"))
    return tuple(x.to(device) for x in (scores, partner, grad))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_reference(shape, dtype, hard, device):
    scores, partner, grad = problem(shape, dtype)
    exact = scores.double()
    expected = (
        _reference.pair_terms(exact, partner, TAU, hard),
        _reference.pair_terms_back(grad.double(), exact, partner, TAU, hard),
    )
    scores, partner, grad = (x.to(device) for x in (scores, partner, grad))
    actual = (
        _triton.pair_terms(scores, partner, TAU, hard),
        _triton.pair_terms_back(grad, scores, partner, TAU, hard),
    )
    again = _triton.pair_terms_back(grad, scores, partner, TAU, hard)
    assert torch.equal(again, actual[1])
    for part, other in zip(actual, expected, strict=True):
        assert part.dtype == dtype
        assert part.shape == other.shape
        assert (part.cpu().double() - other).norm() <= EPS[dtype] * other.norm()


@pytest.mark.parametrize("assignment", ["soft", "hard"])
@pytest.mark.parametrize("estimator", ["jsd", "dv"])
def test_loss_and_gradients(estimator, assignment, device, monkeypatch):
    rng = seeded()
    given = [torch.randn(shape, generator=rng) for shape in ((4, 6, 3, 5), (4, 3, 6))]
    weights = torch.rand((4, 3, 5), generator=rng)

    def run(device, dtype):
        local, glob = (x.to(device, dtype).requires_grad_() for x in given)
        way = TAU, estimator, assignment, seeded(1), weights.to(device)
        loss = infoseg_loss(local, glob, *way)
        return [x.cpu() for x in (loss.detach(), *torch.autograd.grad(loss, (local, glob)))]

    expected = run("cpu", torch.float64)
    if device.type == "cpu":
        monkeypatch.setattr(_pairs, "DEVICES", ("cpu",))
        monkeypatch.setattr(backends, "load", lambda *_: _triton)
    for one, other in zip(run(device, torch.float32), expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_scores_of_no_bfloat16(shape):
    batch, classes, size, width = shape
    glob = torch.zeros((batch, classes, size), dtype=torch.bfloat16, device="cuda")
    scores = local_global_scores(glob.new_zeros((batch, size, 2, width)), glob)
    assert torch.equal(scores, glob.new_zeros((batch, classes, 2, width), dtype=torch.float32))


@pytest.mark.parametrize("hard", [False, True])
def test_no_access_outside_the_tensors(hard, device):
    """The launches again between walls: NaN around what they read, known values around the rest."""
    scores, partner, grad = problem(SHAPES[1], torch.float32, device)

    def walled(tensor, value):
        memory = tensor.new_full((tensor.numel() + 4096,), value)
        inside = memory[2048:-2048].view(tensor.shape)
        return inside.copy_(tensor), memory

    with recorded() as launches:
        _triton.pair_terms(scores, partner, TAU, hard)
        _triton.pair_terms_back(grad, scores, partner, TAU, hard)
    for launch, outputs in zip(launches, (("p_joint", "p_marginal"), ("p_grad",)), strict=True):
        found = {
            name: walled(value, 7 if name in outputs else -1 if name == "p_partner" else torch.nan)
            for name, value in launch.arguments.items()
            if name.startswith("p_") and (name != "p_grad" or "p_grad" in outputs)
        }
        inside = {name: tensor for name, (tensor, _) in found.items()}
        launch.kernel[launch.blocks](**launch.arguments | inside, **launch.options)
        for name in outputs:
            memory = found[name][1]
            assert (memory[:2048] == 7).all()
            assert (memory[-2048:] == 7).all()
            assert inside[name].isfinite().all()


@pytest.mark.parametrize("shape", [*SHAPES, (64, 15, 1024), (70_000, 3, 40_000)])
def test_launch(shape):
    """Every pixel in one block, every class in registers, in one dimension of the grid."""
    batch, classes, pixels = shape
    scores = torch.empty((batch, 2 * classes, pixels), device="meta")
    partner = torch.empty(batch, dtype=torch.int64, device="meta")
    with recorded() as launches:
        terms = _triton.pair_terms(scores, partner, TAU, False)
        grad = _triton.pair_terms_back(terms, scores, partner, TAU, False)
    assert terms.shape == (2, batch, pixels)
    assert grad.shape == scores.shape
    for launch in launches:
        arguments = launch.arguments
        assert set(arguments) == set(launch.kernel.arg_names)
        assert (arguments["K"], arguments["N"]) == (classes, pixels)
        assert arguments["BLOCK_K"] >= classes
        assert launch.blocks == (batch * math.ceil(pixels / arguments["BLOCK_N"]),)
        assert launch.blocks[0] < 2**31
