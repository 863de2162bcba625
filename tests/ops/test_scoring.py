"""local_global_scores, infoseg_loss and info_nce."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import info_nce, infoseg_loss, local_global_scores
from fastseg.ops.scoring import _reference
from fastseg.ops.scoring._draw import derangement, displaced_positions
from tests.ops.scores import CPU, gradients, random, relative_error, seeded

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")
WAYS = [(e, a) for e in ("jsd", "dv") for a in ("soft", "hard")]
# batch, K, P, U, V
SHAPES = [(2, 1, 1, 1, 1), (2, 3, 7, 5, 2), (5, 4, 16, 3, 9), (3, 21, 33, 8, 8)]


def features(shape, dtype=torch.float32, scale=1.0):
    batch, classes, size, u, v = shape
    local = (random(batch, size, u, v) * scale).to(dtype)
    return local, (random(batch, classes, size, seed=1) * scale).to(dtype)


def sp(t):
    return math.log1p(math.exp(t))


# --- What is drawn -----------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(2, 9))
def test_no_image_is_its_own_partner(seed, n):
    partner = derangement(n, seeded(seed), CPU)
    assert sorted(partner.tolist()) == list(range(n))
    assert (partner != torch.arange(n)).all()


def test_every_other_image_is_as_likely_a_partner():
    counts = torch.zeros(4, 4)
    generator = seeded()
    for _ in range(1200):
        counts[torch.arange(4), derangement(4, generator, CPU)] += 1
    assert (counts.diagonal() == 0).all()
    assert (counts[~torch.eye(4, dtype=torch.bool)] - 400).abs().max() < 6 * math.sqrt(1200 * 2 / 9)


@given(
    st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9), st.integers(0, 8), st.floats(0, 1)
)
def test_positions_are_distinct_and_displaced_by_one_step(seed, height, width, radius, share):
    radius = min(radius, height - 1, width - 1)
    most = (height - radius) * (width - radius)
    count = max(1, int(share * most))
    at, at2 = displaced_positions(count, height, width, radius, seeded(seed), CPU)
    for positions in (at, at2):
        assert len(set(positions.tolist())) == count
        assert 0 <= positions.min() <= positions.max() < height * width
    step = torch.stack((at2 // width - at // width, at2 % width - at % width))
    assert (step == step[:, :1]).all()
    assert step.abs().max() <= radius


def test_every_pixel_and_displacement_is_drawn():
    generator, pixels, steps = seeded(), set(), set()
    for _ in range(300):
        at, at2 = displaced_positions(2, 4, 5, 2, generator, CPU)
        pixels |= set(at.tolist()) | set(at2.tolist())
        y, x = (at2 // 5 - at // 5)[0].item(), (at2 % 5 - at % 5)[0].item()
        steps.add((y, x))
    assert pixels == set(range(20))
    assert steps == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


# --- local_global_scores -----------------------------------------------------------------------


def test_scores_by_hand():
    local = torch.tensor([[[[1.0, 2]], [[3, 4]]]])  # two pixels: (1,3) and (2,4)
    glob = torch.tensor([[[1.0, 0], [0, 1], [1, -1]]])
    expected = torch.tensor([[[[1.0, 2]], [[3, 4]], [[-2, -2]]]])
    assert torch.equal(local_global_scores(local, glob), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_equal_the_definition(shape, dtype):
    local, glob = features(shape, dtype)
    scores = local_global_scores(local, glob)
    wide = torch.promote_types(dtype, torch.float32)
    assert scores.dtype == wide
    expected = _reference.local_global_scores(local.double(), glob.double())
    plain = relative_error(_reference.local_global_scores(local.to(wide), glob.to(wide)), expected)
    assert relative_error(scores, expected) <= 2 * (plain + torch.finfo(wide).eps)
    assert torch.equal(local_global_scores(local.mT.contiguous().mT, glob).argmax(1),
                       scores.argmax(1))  # fmt: skip


@pytest.mark.parametrize(
    "shape", [(0, 3, 4, 5, 6), (2, 0, 4, 5, 6), (2, 3, 0, 5, 6), (2, 3, 4, 0, 6)]
)
def test_scores_of_nothing(shape):
    batch, classes, size, u, v = shape
    scores = local_global_scores(torch.zeros(batch, size, u, v), torch.zeros(batch, classes, size))
    assert scores.shape == (batch, classes, u, v)
    assert (scores == 0).all()


# --- infoseg_loss ------------------------------------------------------------------------------


def by_hand(share, local, glob):
    """t⁺ and t⁻ of two images of one pixel with scalar features; `share` of two classes."""
    scores = [[x * h for h in row] for x, row in zip(local, glob, strict=True)]
    v = [share(row) for row in scores]
    joint = [sum(a * s for a, s in zip(v[b], scores[b], strict=True)) for b in (0, 1)]
    other = [
        sum(a * local[b] * h for a, h in zip(v[1 - b], glob[1 - b], strict=True)) for b in (0, 1)
    ]
    return joint, other


@pytest.mark.parametrize(("estimator", "assignment"), WAYS)
def test_infoseg_by_hand(estimator, assignment):
    """Two images are each other's partner whatever is drawn."""
    local, glob, tau = [2.0, -1.0], [[1.0, 0.5], [0.25, -2.0]], 0.5

    def soft(scores):
        weights = [math.exp(tau * s) for s in scores]
        return [w / sum(weights) for w in weights]

    def hard(scores):
        return [float(s == max(scores)) for s in scores]

    joint, other = by_hand(soft if assignment == "soft" else hard, local, glob)
    if assignment == "hard":
        assert joint == [2, 2]
        assert other == [2 * -2.0, -1 * 1.0]
    if estimator == "jsd":
        expected = (sp(-joint[0]) + sp(-joint[1]) + sp(other[0]) + sp(other[1])) / 2
    else:
        expected = math.log((math.exp(other[0]) + math.exp(other[1])) / 2) - sum(joint) / 2
    pixel = torch.tensor(local, dtype=torch.float64).view(2, 1, 1, 1)
    vectors = torch.tensor(glob, dtype=torch.float64).view(2, 2, 1)
    loss = infoseg_loss(pixel, vectors, tau, estimator, assignment)
    assert loss.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("estimator", "assignment"), WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_infoseg_equals_the_definition(shape, estimator, assignment, dtype):
    """Value and gradients, within twice the error of the definition in the same precision."""
    local, glob = features(shape, dtype, scale=0.7)
    partner = derangement(len(local), seeded(5), CPU)

    def definition(dtype):
        x, h = (x.to(dtype).requires_grad_() for x in (local, glob))
        loss = _reference.infoseg_loss(x, h, partner, 0.8, estimator, assignment)
        return [loss.detach(), *gradients(loss, x, h)]

    x, h = (x.clone().requires_grad_() for x in (local, glob))
    loss = infoseg_loss(x, h, 0.8, estimator, assignment, seeded(5))
    wide = torch.promote_types(dtype, torch.float32)
    assert loss.dtype == wide
    # The gradient of half precision is rounded to it.
    roundings = [torch.finfo(wide).eps, *2 * [torch.finfo(dtype).eps]]
    actual = [loss.detach(), *gradients(loss, x, h)]
    together = zip(actual, definition(wide), definition(torch.float64), roundings, strict=True)
    for part, plain, exact, rounding in together:
        if exact.norm() > 1e-12:
            assert relative_error(part, exact) <= 2 * (relative_error(plain, exact) + 8 * rounding)


@pytest.mark.parametrize(("estimator", "assignment"), WAYS)
def test_infoseg_has_the_gradient_of_its_value(estimator, assignment):
    inputs = [x.requires_grad_() for x in features((3, 3, 4, 2, 2), torch.float64)]

    def loss(local, glob):
        return infoseg_loss(local, glob, 0.8, estimator, assignment, seeded())

    torch.autograd.gradcheck(loss, inputs)
    torch.autograd.gradgradcheck(loss, inputs, fast_mode=True)


@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from(WAYS))
def test_infoseg_does_not_know_the_names_of_classes(seed, classes, way):
    estimator, assignment = way
    rng = seeded(seed)
    local = torch.randn(3, 6, 2, 3, generator=rng, dtype=torch.float64)
    glob = torch.randn(3, classes, 6, generator=rng, dtype=torch.float64)
    order = torch.randperm(classes, generator=rng)
    losses = [
        infoseg_loss(local, h, 0.8, estimator, assignment, seeded(1))
        for h in (glob, glob[:, order])
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("estimator", "assignment"), WAYS)
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e3, 1e8])
def test_infoseg_is_finite(scale, estimator, assignment):
    local, glob = (x.requires_grad_() for x in features((3, 4, 8, 3, 3), scale=scale))
    loss = infoseg_loss(local, glob, 0.8, estimator, assignment)
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in gradients(loss, local, glob))
    if scale == 0:  # every score is 0
        assert loss.item() == pytest.approx(2 * math.log(2) if estimator == "jsd" else 0)


def test_infoseg_at_the_ends_of_softplus():
    """sp(−t) = e⁻ᵗ for large t, which 1 + e⁻ᵗ loses; sp(t) = t."""
    local = torch.full((2, 1, 1, 1), 50.0, dtype=torch.float64)
    loss = infoseg_loss(local, torch.ones(2, 1, 1, dtype=torch.float64))
    assert loss.item() == 50 + 2 * math.exp(-50)
    local[1] = -50
    glob = torch.tensor([1.0, -1.0], dtype=torch.float64).view(2, 1, 1)
    loss = infoseg_loss(local, glob)
    assert loss.item() == pytest.approx(2 * math.exp(-50), rel=1e-12)


def test_infoseg_takes_the_seed_of_its_generator_or_of_torch():
    local, glob = features((6, 3, 4, 2, 2))
    first = infoseg_loss(local, glob, generator=seeded(1))
    assert torch.equal(first, infoseg_loss(local, glob, generator=seeded(1)))
    others = {infoseg_loss(local, glob, generator=seeded(i)).item() for i in range(9)}
    assert len(others) > 5
    torch.manual_seed(1)
    assert torch.equal(first, infoseg_loss(local, glob))


def test_infoseg_keeps_no_assigned_features():
    """Of what autograd saves only L is as large as L."""
    local, glob = (x.requires_grad_() for x in features((4, 3, 64, 8, 8)))
    saved = []

    def keep(x):
        saved.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        infoseg_loss(local, glob)
    large = {x.untyped_storage().data_ptr() for x in saved if x.numel() >= local.numel()}
    assert large == {local.untyped_storage().data_ptr()}


def test_infoseg_takes_any_layout_and_autocast_changes_nothing():
    local, glob = features((3, 4, 8, 5, 6))
    loss = infoseg_loss(local, glob, generator=seeded())
    for other in (local.to(memory_format=torch.channels_last), local.mT.contiguous().mT):
        again = infoseg_loss(other, glob.mT.contiguous().mT, generator=seeded())
        assert torch.allclose(again, loss, rtol=1e-6, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(infoseg_loss(local, glob, generator=seeded()), loss)
        assert local_global_scores(local, glob).dtype == torch.float32


# --- Both losses -------------------------------------------------------------------------------


COMPILED = {
    "jsd": lambda x, y: infoseg_loss(x, y.flatten(2), estimator="jsd"),
    "dv": lambda x, y: infoseg_loss(x, y.flatten(2), estimator="dv", assignment="hard"),
    "nce": lambda x, y: info_nce(x, y.mT.contiguous().mT, 6, 1),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
@pytest.mark.parametrize("name", COMPILED)
def test_losses_compile_whole(name):
    loss = COMPILED[name]
    results = []
    for call in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        x, y = (random(3, 4, 4, 1 + 3 * (name == "nce"), seed=i).requires_grad_() for i in (0, 1))
        torch.manual_seed(0)
        value = call(x, y)
        results.append((value.detach(), *gradients(value, x, y)))
    for actual, expected in zip(*results, strict=True):
        assert torch.allclose(actual, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["infoseg", "nce"])
def test_losses_have_the_same_bits_for_any_number_of_threads(name, threads):
    x, y = (random(4, 16, 9, 11, seed=i).requires_grad_() for i in (0, 1))
    glob = random(4, 5, 16, seed=2)
    results = []
    for count in threads:
        torch.set_num_threads(count)
        if name == "nce":
            loss = info_nce(x, y, 40, 2, seeded())
        else:
            loss = infoseg_loss(x, glob, generator=seeded())
        results.append((loss.detach(), gradients(loss, x)[0]))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


# --- Bad input ---------------------------------------------------------------------------------

L = torch.zeros(2, 4, 5, 6)
H = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"L": np.zeros((2, 4, 5, 6))}, TypeError, "`L` must be a torch.Tensor, got ndarray"),
        ({"L": L[0]}, ValueError, r"`L` must have 4 dimensions \(B, P, U, V\), got .*\(4, 5, 6\)"),
        ({"L": L.int()}, TypeError, "`L` must be float32 or .*, got int32"),
        ({"H": [1]}, TypeError, "`H` must be a torch.Tensor, got list"),
        ({"H": H[0]}, ValueError, r"`H` must have 3 dimensions \(B, K, P\), got .*\(3, 4\)"),
        ({"H": H.bool()}, TypeError, "`H` must be float32 or .*, got bool"),
        ({"H": H.mT}, ValueError, r"`H` must have shape \(2, any, 4\), got \(2, 4, 3\)"),
        ({"H": H.to("meta")}, ValueError, r"`H` must be on the device of `L` \(cpu\), got meta"),
    ],
)
def test_what_scores_and_infoseg_refuse(change, error, message):
    for function in (local_global_scores, infoseg_loss):
        with pytest.raises(error, match=message):
            function(**{"L": L, "H": H, **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"L": L[:1], "H": H[:1]}, ValueError, "`L` must hold at least 2 images, .* got 1"),
        ({"L": L[:0], "H": H[:0]}, ValueError, "`L` must hold at least 2 images, .* got 0"),
        ({"L": L[..., :0]}, ValueError, r"`L` must not be empty, got shape \(2, 4, 5, 0\)"),
        ({"H": H[:, :0]}, ValueError, r"`H` must not be empty, got shape \(2, 0, 4\)"),
        ({"tau": -1}, ValueError, "`tau` must be finite and at least 0, got -1"),
        ({"tau": "0.8"}, TypeError, "`tau` must be a number, got str"),
        ({"estimator": "nwj"}, ValueError, "`estimator` must be one of 'jsd', 'dv', got 'nwj'"),
        ({"assignment": 1}, ValueError, "`assignment` must be one of 'soft', 'hard', got 1"),
        ({"generator": 1}, TypeError, "`generator` must be a torch.Generator or None, got int"),
        ({"weights": 1}, TypeError, "`weights` must be a torch.Tensor, got int"),
        ({"weights": L[:, 0].int()}, TypeError, "`weights` must be bool or .*, got int32"),
        ({"weights": L}, ValueError, r"`weights` must have shape \(2, 5, 6\), got \(2, 4, 5, 6\)"),
    ],
)
def test_what_infoseg_refuses(change, error, message):
    with pytest.raises(error, match=message):
        infoseg_loss(**{"L": L, "H": H, **change})
