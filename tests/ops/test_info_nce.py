"""info_nce."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import info_nce
from fastseg.ops.scoring import _reference, api
from fastseg.ops.scoring._draw import displaced_positions
from tests.ops.scores import CPU, gradients, random, relative_error, seeded

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")


def test_info_nce_by_hand():
    """Two images of one pixel: a positive, and one negative from the other image."""
    y = torch.tensor([[1.0, 2], [0, -1]], dtype=torch.float64).view(2, 2, 1, 1)
    y2 = torch.tensor([[0.5, 1], [-1, 1]], dtype=torch.float64).view(2, 2, 1, 1)
    # f: 2.5 and 1 for the first anchor, −1 and −1 for the second
    first = math.log(math.exp(2.5) / ((math.exp(2.5) + math.exp(1)) / 2))
    assert info_nce(y, y2, positions=1).item() == pytest.approx(-(first + 0) / 2, rel=1e-14)


def test_info_nce_counts_pairs_of_distinct_images_only():
    """Own pixels other than the positive are no negatives, however alike they are."""
    y, y2 = torch.zeros(2, 2, 1, 3), torch.zeros(2, 2, 1, 3)
    y[0, 0], y[1, 1] = 9, 9  # all pixels of an image are the same, the images orthogonal
    y2[0, 0], y2[1, 1] = 9, 9
    expected = math.log(1 + 3 * math.exp(-81)) - math.log(4)
    assert info_nce(y, y2, positions=3).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("held", [1, 1 << 18])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "positions", "radius"),
    [((2, 1, 1, 1), 1, 0), ((3, 5, 4, 7), 28, 0), ((5, 8, 6, 5), 6, 2), ((4, 3, 9, 9), 30, 1)],
)
def test_info_nce_equals_the_definition(shape, positions, radius, dtype, held, monkeypatch):
    """Value and gradients, for whole batches at once and for image after image."""
    monkeypatch.setitem(api.HELD, "cpu", held)
    y, y2 = random(*shape).to(dtype), random(*shape, seed=1).to(dtype)
    height, width = shape[2:]
    at = displaced_positions(positions, height, width, radius, seeded(5), CPU)

    def definition(dtype):
        left, right = (x.to(dtype).requires_grad_() for x in (y, y2))
        loss = _reference.info_nce(left, right, *at)
        return [loss.detach(), *gradients(loss, left, right)]

    left, right = (x.clone().requires_grad_() for x in (y, y2))
    loss = info_nce(left, right, positions, radius, seeded(5))
    wide = torch.promote_types(dtype, torch.float32)
    assert loss.dtype == wide
    roundings = [torch.finfo(wide).eps, *2 * [torch.finfo(dtype).eps]]
    actual = [loss.detach(), *gradients(loss, left, right)]
    together = zip(actual, definition(wide), definition(torch.float64), roundings, strict=True)
    for part, plain, exact, rounding in together:
        assert relative_error(part, exact) <= 2 * (relative_error(plain, exact) + 8 * rounding)
    assert torch.equal(info_nce(y, y2, positions, radius, seeded(5)), loss)


def test_info_nce_has_the_gradient_of_its_value_once():
    y, y2 = (random(3, 2, 3, 4, seed=i, dtype=torch.float64).requires_grad_() for i in (0, 1))

    def loss(y, y2):
        return info_nce(y, y2, 4, 1, seeded())

    torch.autograd.gradcheck(loss, (y, y2))
    torch.autograd.gradcheck(lambda y: loss(y, y2.detach()), y)
    torch.autograd.gradcheck(lambda y2: loss(y.detach(), y2), y2)
    with pytest.raises(NotImplementedError, match="info_nce has no second derivative"):
        torch.autograd.grad(loss(y, y2), y, create_graph=True)


@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(1, 12), st.floats(-3, 3))
def test_info_nce_is_bounded_by_the_number_of_pairs(seed, batch, positions, scale):
    rng = seeded(seed)
    y, y2 = torch.randn(2, batch, 3, 3, 4, generator=rng, dtype=torch.float64) * 10**scale
    loss = info_nce(y, y2, positions).item()
    assert loss >= -math.log((batch - 1) * positions + 1) - 1e-12


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e3, 1e8])
def test_info_nce_is_finite(scale):
    y, y2 = ((random(3, 4, 3, 3, seed=i) * scale).requires_grad_() for i in (0, 1))
    loss = info_nce(y, y2, 9)
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in gradients(loss, y, y2))
    if scale == 0:
        assert loss.item() == pytest.approx(0, abs=1e-6)


def test_info_nce_takes_the_seed_of_its_generator_or_of_torch():
    y, y2 = random(3, 4, 9, 9), random(3, 4, 9, 9, seed=1)
    first = info_nce(y, y2, 5, 2, seeded(1))
    assert torch.equal(first, info_nce(y, y2, 5, 2, seeded(1)))
    assert len({info_nce(y, y2, 5, 2, seeded(i)).item() for i in range(9)}) == 9
    torch.manual_seed(1)
    assert torch.equal(first, info_nce(y, y2, 5, 2))


def test_info_nce_takes_any_layout_and_autocast_changes_nothing():
    y, y2 = random(3, 4, 9, 8), random(3, 4, 9, 8, seed=1)
    loss = info_nce(y, y2, 7, 1, seeded())
    last = torch.channels_last
    for other in (y.to(memory_format=last), y.mT.contiguous().mT):
        again = info_nce(other, y2.to(memory_format=last), 7, 1, seeded())
        assert torch.allclose(again, loss, rtol=1e-6, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(y, y2, 7, 1, seeded()), loss)


def test_info_nce_is_a_sound_operator():
    a, b = random(3, 5, 4), random(3, 5, 4, seed=1)
    turned = a.mT.contiguous().mT
    for left, right in ((a, b), (turned, b), (a, turned)):
        for grad in (False, True):
            inputs = [x.detach().requires_grad_(grad) for x in (left, right)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
                torch.library.opcheck(torch.ops.fastseg.info_nce.default, (*inputs, grad))


# --- Bad input ---------------------------------------------------------------------------------

L = torch.zeros(2, 4, 5, 6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": None}, TypeError, "`y` must be a torch.Tensor, got NoneType"),
        ({"y": L[0]}, ValueError, r"`y` must have 4 dimensions \(B, C, H, W\), got .*\(4, 5, 6\)"),
        ({"y": L.long()}, TypeError, "`y` must be float32 or .*, got int64"),
        ({"y2": L.mT}, ValueError, r"`y2` must have shape \(2, 4, 5, 6\), got \(2, 4, 6, 5\)"),
        ({"y2": L.to("meta")}, ValueError, "`y2` must be on the device of `y` .* got meta"),
        ({"y": L[:1], "y2": L[:1]}, ValueError, "`y` must hold at least 2 images, .* got 1"),
        ({"y": L[:, :0], "y2": L[:, :0]}, ValueError, "`y` must not be empty, got shape"),
        ({"radius": 5}, ValueError, r"`radius` must be less than the shorter side .*\(5\), got 5"),
        ({"radius": -1}, ValueError, "`radius` must be an integer of at least 0, got -1"),
        ({"positions": 0}, ValueError, "`positions` must be an integer of at least 1, got 0"),
        (
            {"positions": 21, "radius": 1},
            ValueError,
            r"`positions` must be at most \(H−T\)·\(W−T\) = 20, got 21",
        ),
        ({"generator": 1}, TypeError, "`generator` must be a torch.Generator or None, got int"),
    ],
)
def test_what_info_nce_refuses(change, error, message):
    with pytest.raises(error, match=message):
        info_nce(**{"y": L, "y2": L, "positions": 4, **change})
