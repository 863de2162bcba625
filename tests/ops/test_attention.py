"""ordered_attention, and the operator that puts pixels in order."""

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fastseg import ordered_attention
from fastseg.ops.attention import _reference, api
from fastseg.orderings import ALL, attention_mask, permutation, ranks

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
# batch, heads, height, width, d
SHAPES = [(1, 1, 1, 1, 1), (2, 1, 1, 6, 3), (1, 2, 5, 1, 8), (2, 3, 5, 7, 16)]


def problem(shape, dtype=torch.float32, seed=0):
    """Queries, keys, values, and the gradient of what comes out."""
    batch, heads, height, width, d = shape
    generator = torch.Generator().manual_seed(seed)
    size = batch, heads, height * width, d
    return [torch.randn(size, generator=generator).to(dtype) for _ in range(4)]


def both_ways(attention, inputs, *options):
    """Value and gradients."""
    *inputs, grad = inputs
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = attention(*inputs, *options)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def relative_error(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm().clamp(min=1e-300)).item()


# --- Values ------------------------------------------------------------------------------------


def test_by_hand():
    """A row of three, seen from the right: the last sees itself, the first all."""
    v = torch.tensor([3.0, 5.0, 9.0], dtype=torch.float64).view(1, 1, 3, 1)
    q = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64).view(1, 1, 3, 1)
    k = torch.tensor([0.5, 0.0, -1.0], dtype=torch.float64).view(1, 1, 3, 1)
    a, b, c = (math.exp(x) for x in (0.5, 0.0, -1.0))
    d, e = math.exp(0), math.exp(-2)
    expected = [(3 * a + 5 * b + 9 * c) / (a + b + c), (5 * d + 9 * e) / (d + e), 9]
    assert ordered_attention(q, k, v, 1, 3, 5).flatten().tolist() == pytest.approx(expected)


def test_the_mask_is_not_multiplied_into_the_logits():
    """Eq. 2 to the letter shows each pixel those it must not see, with logit 0."""
    q, k, v, _ = problem((1, 1, 2, 3, 4), torch.float64)
    ours = ordered_attention(q, k, v, 2, 3, 1)
    assert torch.equal(ours[..., 0, :], v[..., 0, :])
    literal = _reference.ordered_attention(q, k, v, 2, 3, 1, literal=True)
    first = (q[0, 0, 0] @ k[0, 0, 0] / 2).exp()
    leaked = (first * v[0, 0, 0] + v[0, 0, 1:].sum(0)) / (first + 5)
    assert torch.allclose(literal[0, 0, 0], leaked)
    assert not torch.allclose(literal, ours)
    unmasked = _reference.ordered_attention(q, k, v, 2, 3, 0, literal=True)
    assert torch.allclose(unmasked, ordered_attention(q, k, v, 2, 3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ordering", [0, *ALL])
def test_equals_the_definition(ordering, dtype):
    """Value and gradients, within twice the error of the definition in the same precision."""
    wide = torch.promote_types(dtype, torch.float32)
    for shape in SHAPES:
        inputs = problem(shape, dtype)
        place = *shape[2:4], ordering
        plains, exacts = (
            both_ways(_reference.ordered_attention, [x.to(t) for x in inputs], *place)
            for t in (wide, torch.float64)
        )
        actual = both_ways(ordered_attention, inputs, *place)
        for part, plain, exact in zip(actual, plains, exacts, strict=True):
            assert part.dtype == dtype
            scale = exact.norm().item()
            rounding = 8 * torch.finfo(dtype).eps * max(scale, 1)
            worst = (part.double() - exact).norm().item()
            assert worst <= 2 * ((plain - exact).norm().item() + rounding), shape


@pytest.mark.parametrize("ordering", ALL)
def test_equals_pytorch_with_an_explicit_mask(ordering):
    """At the size of a block and more, in float32."""
    inputs = problem((1, 2, 23, 25, 8))
    mask = attention_mask(23, 25, ordering)

    def peer(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    exact = both_ways(peer, [x.double() for x in inputs])
    actual = both_ways(ordered_attention, inputs, 23, 25, ordering)
    for part, plain, expected in zip(actual, both_ways(peer, inputs), exact, strict=True):
        band = 2 * (relative_error(plain, expected) + 4 * torch.finfo(torch.float32).eps)
        assert relative_error(part, expected) <= band


@pytest.mark.parametrize("scale", [0.01, 0.3, 1, None])
def test_scale(scale):
    q, k, v, _ = problem((1, 2, 3, 4, 5), torch.float64)
    expected = _reference.ordered_attention(q, k, v, 3, 4, 10, 5**-0.5 if scale is None else scale)
    assert torch.allclose(ordered_attention(q, k, v, 3, 4, 10, scale), expected)


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(ALL), st.integers(0, 99))
def test_every_ordering_is_the_first_of_the_pixels_in_its_order(height, width, ordering, seed):
    q, k, v, _ = problem((1, 2, height, width, 3), torch.float64, seed)
    order = permutation(height, width, ordering)
    places = ranks(height, width, ordering).flatten()
    first, keys, values = (x[:, :, order] for x in (q, k, v))
    first = F.scaled_dot_product_attention(first, keys, values, is_causal=True)
    assert torch.equal(ordered_attention(q, k, v, height, width, ordering), first[:, :, places])


@pytest.mark.parametrize("ordering", [0, *ALL])
def test_a_pixel_depends_on_those_before_it_and_no_others(ordering):
    q, k, v, _ = problem((1, 1, 3, 4, 2), torch.float64)
    mask = attention_mask(3, 4, ordering)
    of_k, of_v = torch.autograd.functional.jacobian(
        lambda k, v: ordered_attention(q, k, v, 3, 4, ordering)[0, 0], (k, v)
    )
    assert torch.equal(of_v[:, :, 0, 0].ne(0).any(3).any(1), mask)
    # A pixel that sees itself alone gives its whole weight to itself, whatever the key.
    others = mask & (mask.sum(1, keepdim=True) > 1)
    assert torch.equal(of_k[:, :, 0, 0].ne(0).any(3).any(1), others)
    of_q = torch.autograd.functional.jacobian(
        lambda q: ordered_attention(q, k, v, 3, 4, ordering)[0, 0], q
    )
    own = torch.diag(mask.sum(1) > 1)
    assert torch.equal(of_q[:, :, 0, 0].ne(0).any(3).any(1), own)


def test_hidden_pixels_change_no_bit():
    q, k, v, _ = problem((1, 1, 4, 4, 3))
    order = permutation(4, 4, 13)
    expected = ordered_attention(q, k, v, 4, 4, 13)[:, :, order[:9]]
    for x in (q, k, v):
        x[:, :, order[9:]] = 1e15
    assert torch.equal(ordered_attention(q, k, v, 4, 4, 13)[:, :, order[:9]], expected)


# --- Layouts and sizes -------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", [0, 1, 6, 15])
def test_takes_any_layout(ordering):
    q, k, v, _ = problem((2, 3, 4, 5, 6))
    expected = ordered_attention(q, k, v, 4, 5, ordering)
    for change in (
        lambda x: x.mT.contiguous().mT,  # channels first
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),  # heads after pixels
        lambda x: x.repeat_interleave(2, 3)[..., ::2],
        lambda x: x.flip(0).contiguous().flip(0),
    ):
        other = ordered_attention(change(q), change(k), change(v), 4, 5, ordering)
        assert torch.equal(other, expected)
    a, b, c = torch.stack((q, k, v), 3).unbind(3)  # as of one linear map for all three
    assert torch.equal(ordered_attention(a, b, c, 4, 5, ordering), expected)


@pytest.mark.parametrize("ordering", [0, 1, 7, 16])
@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4, 5), (2, 0, 3, 4, 5), (2, 2, 0, 4, 5), (2, 2, 3, 0, 5)]
)
def test_nothing(shape, ordering):
    inputs = problem(shape)
    parts = both_ways(ordered_attention, inputs, *shape[2:4], ordering)
    assert all(part.shape == inputs[0].shape for part in parts)


def test_stores_no_mask(monkeypatch):
    """Nothing that autograd keeps or that is made on the way grows with N²."""
    height, width = 24, 25
    inputs = problem((1, 1, height, width, 4))
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            nonlocal largest
            out = function(*arguments, **(options or {}))
            for x in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(x, torch.Tensor):
                    largest = max(largest, x.numel())
            return out

    for ordering in (0, 1, 8, 9):
        for given_inputs in (inputs, [x.mT.contiguous().mT for x in inputs]):
            with Watch():
                both_ways(ordered_attention, given_inputs, height, width, ordering)
    count = inputs[0].numel()
    assert count <= largest <= 4 * count < (height * width) ** 2


@pytest.mark.parametrize("shape", [(3, 2, 20, 20, 8), (1, 1, 29, 30, 8)])
def test_the_same_bits_for_any_number_of_threads(shape, threads):
    inputs = problem(shape)
    results = []
    for count in threads:
        torch.set_num_threads(count)
        results.append(both_ways(ordered_attention, inputs, *shape[2:4], 11))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


# --- Gradients and compilers -------------------------------------------------------------------


@pytest.mark.parametrize("ordering", [0, *ALL])
def test_has_the_gradient_of_its_value(ordering):
    inputs = [x.requires_grad_() for x in problem((1, 2, 2, 3, 2), torch.float64)[:3]]
    torch.autograd.gradcheck(lambda q, k, v: ordered_attention(q, k, v, 2, 3, ordering), inputs)


def test_has_no_second_derivative():
    q, k, v, _ = (x.requires_grad_() for x in problem((1, 1, 3, 4, 2)))
    out = ordered_attention(q, k, v, 3, 4, 9)
    (first,) = torch.autograd.grad(out.sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match=r"derivative for .* is not implemented"):
        torch.autograd.grad(first.sum(), k)


def test_putting_in_order_is_a_sound_operator():
    x = torch.randn(2, 3, 20, 4)
    for given_x in (x, x.mT.contiguous().mT, x.double().requires_grad_()):
        for back in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
                operator = torch.ops.fastseg.reorder.default
                torch.library.opcheck(operator, (given_x, 4, 5, 12, back))


@pytest.mark.parametrize("ordering", [1, 2, 8, 9, 16])
def test_putting_in_order_and_back(ordering):
    x = torch.randn(2, 20, 3, dtype=torch.float64, requires_grad=True)
    there = api.reorder(x, 4, 5, ordering)
    assert torch.equal(there, x[:, permutation(4, 5, ordering)])
    assert torch.equal(api.reorder(there, 4, 5, ordering, back=True), x)
    torch.autograd.gradgradcheck(lambda x: api.reorder(x, 4, 5, ordering).sin(), x, fast_mode=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_compiles_whole_once_for_all_orderings():
    inputs = problem((1, 2, 4, 5, 8))
    graphs = 0

    def call(q, k, v, ordering):
        return ordered_attention(q, k, v.mT.contiguous().mT, 4, 5, ordering)

    def count(graph, inputs):
        nonlocal graphs
        graphs += 1
        return graph

    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    counted = torch.compile(call, fullgraph=True, backend=count)
    for ordering in (2, 12, 0, 1, *ALL):
        expected = both_ways(call, inputs, ordering)
        for part, other in zip(both_ways(compiled, inputs, ordering), expected, strict=True):
            torch.testing.assert_close(part, other)
        q, k, v, _ = inputs
        torch.testing.assert_close(counted(q, k, v, ordering), expected[0])
    assert graphs <= 4  # the first; any above 1; 0; 1


def test_under_autocast():
    q, k, v, _ = problem((1, 2, 4, 5, 8))
    with torch.autocast("cpu", torch.bfloat16):
        low = ordered_attention(q, k, v, 4, 5, 10)
    assert low.dtype == torch.bfloat16
    exact = ordered_attention(q, k, v, 4, 5, 10)
    torch.testing.assert_close(low.float(), exact, rtol=0.05, atol=0.05)


# --- Bad input ---------------------------------------------------------------------------------

Q = torch.zeros(2, 3, 20, 4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": np.zeros((2, 3, 20, 4))}, TypeError, "`q` must be a torch.Tensor, got ndarray"),
        ({"v": None}, TypeError, "`v` must be a torch.Tensor, got NoneType"),
        ({"q": Q[0]}, ValueError, r"`q` must have 4 dimensions \(B, heads, N, d\), got .*20, 4\)"),
        ({"k": Q.int()}, TypeError, "`k` must be float32, got int32"),
        ({"q": Q.int()}, TypeError, "`q` must be float32 or float64 or .*, got int32"),
        ({"v": Q.double()}, TypeError, "`v` must be float32, got float64"),
        ({"k": Q.to("meta")}, ValueError, r"`k` must be on the device of `q` \(cpu\), got meta"),
        ({"k": Q[:1]}, ValueError, r"`k` must have shape \(2, 3, 20, 4\), got \(1, 3, 20, 4\)"),
        ({"v": Q[..., :2]}, ValueError, r"`v` must have shape \(2, 3, 20, 4\), got \(2, 3, 20, 2"),
        ({"q": Q[:, :, 1:]}, ValueError, r"`q` must have shape \(any, any, 20, any\), got \(2, 3"),
        (
            {"q": Q[..., :0]},
            ValueError,
            r"`q` must have a d of at least 1, got shape \(2, 3, 20, 0",
        ),
        ({"height": -4}, ValueError, "`height` must be an integer of at least 0, got -4"),
        ({"width": 5.0}, TypeError, "`width` must be an integer, got float"),
        ({"ordering": 17}, ValueError, "`ordering` must be an integer from 0 to 16, got 17"),
        ({"ordering": -1}, ValueError, "`ordering` must be .* at least 0, got -1"),
        ({"scale": 0}, ValueError, "`scale` must be finite and greater than 0, got 0"),
        ({"scale": "1"}, TypeError, "`scale` must be a number, got str"),
    ],
)
def test_what_it_refuses(change, error, message):
    with pytest.raises(error, match=message):
        ordered_attention(**{"q": Q, "k": Q, "v": Q, "height": 4, "width": 5, **change})
