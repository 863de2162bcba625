"""argmax_in_place."""

import math
import shutil
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import argmax_in_place

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

P = torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_by_hand(dtype):
    p = P.to(dtype)
    rows = argmax_in_place(p)
    assert rows.dtype == dtype
    assert rows.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert argmax_in_place(p, 0).tolist() == [[0, 1, 1], [1, 0, 0]]
    assert argmax_in_place(p, -2).tolist() == [[0, 1, 1], [1, 0, 0]]
    assert torch.equal(p, P.to(dtype))


def test_ties_and_what_is_not_a_number():
    tied = argmax_in_place(torch.tensor([[0.5, 0.5], [-math.inf, -math.inf]]))
    assert tied.sum(1).tolist() == [1, 1]
    assert argmax_in_place(torch.tensor([[math.inf, math.nan, 0.0]])).tolist() == [[0, 1, 0]]


@given(st.integers(0, 1000), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_one_class_a_place_the_largest(seed, shape, data):
    p = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    hard = argmax_in_place(p, dim)
    assert torch.equal(hard.sum(dim), torch.ones_like(hard.sum(dim)))
    assert torch.equal((hard * p).sum(dim), p.amax(dim))


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 1, 4, 5), (3,)])
def test_odd_shapes(shape):
    p = torch.rand(shape, requires_grad=True)
    hard = argmax_in_place(p, 1 if len(shape) > 1 else 0)
    assert hard.shape == shape
    hard.sum().backward()
    torch.testing.assert_close(p.grad, torch.ones(shape))


def test_takes_and_keeps_any_layout():
    p = torch.randn(2, 4, 3, 5)
    expected = argmax_in_place(p)
    for other in (p.to(memory_format=torch.channels_last), p.mT.contiguous().mT):
        hard = argmax_in_place(other)
        assert torch.equal(hard, expected)
        assert hard.stride() == other.stride()


# --- Gradients, operator, compiler -------------------------------------------------------------


def test_the_gradient_is_copied():
    """As if there were nothing but the softmax."""
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 4, dtype=torch.float64)
    through = torch.autograd.grad((argmax_in_place(logits.softmax(1)) * weight).sum(), logits)[0]
    soft = torch.autograd.grad((logits.softmax(1) * weight).sum(), logits)[0]
    assert torch.equal(through, soft)


def test_gradients_of_any_order():
    p = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    hard = argmax_in_place(p)
    (first,) = torch.autograd.grad((hard**3).sum(), p, create_graph=True)
    assert torch.equal(first, 3 * hard**2)
    (second,) = torch.autograd.grad(first.sum(), p, create_graph=True)
    assert torch.equal(second, 6 * hard)


def test_sound_operator():
    p = torch.randn(2, 3, 4, 5)
    for view in (p, p.mT.contiguous().mT, p.to(memory_format=torch.channels_last), p[:0]):
        for wants_gradient in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
                torch.library.opcheck(
                    torch.ops.fastseg.argmax_in_place.default,
                    (view.detach().requires_grad_(wants_gradient), 1),
                )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_compiles_whole():
    logits, weight = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(2, 3, 4, 5)

    def masked(logits):
        return (argmax_in_place(logits.softmax(1)) * weight).sum()

    backend = "inductor" if shutil.which("g++") else "aot_eager"
    compiled = torch.compile(masked, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(logits), masked(logits))
    actual, expected = (torch.autograd.grad(f(logits), logits)[0] for f in (compiled, masked))
    torch.testing.assert_close(actual, expected)


# --- Bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((2, 3)),), TypeError, "`p` must be a torch.Tensor, got ndarray"),
        ((P.int(),), TypeError, "`p` must be float32 or float64 or .*, got int32"),
        ((P, 1.0), TypeError, "`dim` must be an integer, got float"),
        ((P, True), TypeError, "`dim` must be an integer, got bool"),
        ((P, 2), ValueError, "`dim` must be an axis of `p`, which has 2, got 2"),
        ((P, -3), ValueError, "`dim` must be an axis of `p`, which has 2, got -3"),
        ((P[:, :0],), ValueError, r"`p` must have a class along axis 1, got shape \(2, 0\)"),
        ((P[0, 0],), ValueError, "`dim` must be an axis of `p`, which has 0, got 1"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        argmax_in_place(*arguments)
