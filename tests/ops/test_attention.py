"""ordered_attention, and the operator that puts pixels in order."""

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fastseg import backends, ordered_attention
from fastseg.ops.attention import _reference
from fastseg.ops.attention._order import reorder
from fastseg.orderings import ALL, attention_mask, permutation, ranks

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")


@pytest.fixture(params=["native", "torch", "reference"], scope="module")
def backend(request):
    """Each backend of the CPU."""
    reason = backends.why_not(request.param)
    if reason is not None:
        pytest.skip(reason)
    return request.param


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
# batch, heads, height, width, d
SHAPES = [(1, 1, 1, 1, 1), (2, 1, 1, 6, 3), (1, 2, 5, 1, 8), (2, 3, 5, 7, 16)]


def problem(shape, dtype=torch.float32, seed=0):
    """Queries, keys, values, and the gradient of what comes out."""
    batch, heads, height, width, d = shape
    generator = torch.Generator().manual_seed(seed)
    size = batch, heads, height * width, d
    return [torch.randn(size, generator=generator).to(dtype) for _ in range(4)]


def both_ways(attention, inputs, *options, **named):
    """Value and gradients."""
    *inputs, grad = inputs
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = attention(*inputs, *options, **named)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def relative_error(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm().clamp(min=1e-300)).item()


# --- Values ------------------------------------------------------------------------------------


def test_by_hand(backend):
    """A row of three, seen from the right: the last sees itself, the first all."""
    v = torch.tensor([3.0, 5.0, 9.0], dtype=torch.float64).view(1, 1, 3, 1)
    q = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64).view(1, 1, 3, 1)
    k = torch.tensor([0.5, 0.0, -1.0], dtype=torch.float64).view(1, 1, 3, 1)
    a, b, c = (math.exp(x) for x in (0.5, 0.0, -1.0))
    d, e = math.exp(0), math.exp(-2)
    expected = [(3 * a + 5 * b + 9 * c) / (a + b + c), (5 * d + 9 * e) / (d + e), 9]
    assert ordered_attention(q, k, v, 1, 3, 5, backend=backend).flatten().tolist() == pytest.approx(
        expected
    )


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
def test_equals_the_definition(ordering, dtype, backend):
    """Value and gradients, within twice the error of the definition in the same precision."""
    wide = torch.promote_types(dtype, torch.float32)
    for shape in SHAPES:
        inputs = problem(shape, dtype)
        place = *shape[2:4], ordering
        plains, exacts = (
            both_ways(_reference.ordered_attention, [x.to(t) for x in inputs], *place)
            for t in (wide, torch.float64)
        )
        actual = both_ways(ordered_attention, inputs, *place, backend=backend)
        for part, plain, exact in zip(actual, plains, exacts, strict=True):
            assert part.dtype == dtype
            scale = exact.norm().item()
            rounding = 8 * torch.finfo(dtype).eps * max(scale, 1)
            worst = (part.double() - exact).norm().item()
            assert worst <= 2 * ((plain - exact).norm().item() + rounding), shape


@pytest.mark.parametrize("ordering", ALL)
def test_equals_pytorch_with_an_explicit_mask(ordering, backend):
    """At the size of a block and more, in float32."""
    inputs = problem((1, 2, 23, 25, 8))
    mask = attention_mask(23, 25, ordering)

    def peer(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    exact = both_ways(peer, [x.double() for x in inputs])
    actual = both_ways(ordered_attention, inputs, 23, 25, ordering, backend=backend)
    for part, plain, expected in zip(actual, both_ways(peer, inputs), exact, strict=True):
        band = 2 * (relative_error(plain, expected) + 4 * torch.finfo(torch.float32).eps)
        assert relative_error(part, expected) <= band


@pytest.mark.parametrize("scale", [0.01, 0.3, 1, None])
def test_scale(scale, backend):
    q, k, v, _ = problem((1, 2, 3, 4, 5), torch.float64)
    expected = _reference.ordered_attention(q, k, v, 3, 4, 10, 5**-0.5 if scale is None else scale)
    actual = ordered_attention(q, k, v, 3, 4, 10, scale, backend=backend)
    assert torch.allclose(actual, expected)


@pytest.mark.parametrize("backend", ["native", "torch"], indirect=True)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(ALL), st.integers(0, 99))
def test_every_ordering_is_the_first_of_the_pixels_in_its_order(
    backend, height, width, ordering, seed
):
    q, k, v, _ = problem((1, 2, height, width, 3), torch.float64, seed)
    order = permutation(height, width, ordering)
    places = ranks(height, width, ordering).flatten()
    first, keys, values = (x[:, :, order] for x in (q, k, v))
    first = ordered_attention(first, keys, values, 1, height * width, 1, backend=backend)
    actual = ordered_attention(q, k, v, height, width, ordering, backend=backend)
    assert torch.equal(actual, first[:, :, places])


@pytest.mark.parametrize("ordering", [0, *ALL])
def test_a_pixel_depends_on_those_before_it_and_no_others(ordering, backend):
    q, k, v, _ = problem((1, 1, 3, 4, 2), torch.float64)
    mask = attention_mask(3, 4, ordering)
    of_k, of_v = torch.autograd.functional.jacobian(
        lambda k, v: ordered_attention(q, k, v, 3, 4, ordering, backend=backend)[0, 0], (k, v)
    )
    assert torch.equal(of_v[:, :, 0, 0].ne(0).any(3).any(1), mask)
    # A pixel that sees itself alone gives its whole weight to itself, whatever the key.
    others = mask & (mask.sum(1, keepdim=True) > 1)
    assert torch.equal(of_k[:, :, 0, 0].ne(0).any(3).any(1), others)
    of_q = torch.autograd.functional.jacobian(
        lambda q: ordered_attention(q, k, v, 3, 4, ordering, backend=backend)[0, 0], q
    )
    own = torch.diag(mask.sum(1) > 1)
    assert torch.equal(of_q[:, :, 0, 0].ne(0).any(3).any(1), own)


def test_hidden_pixels_change_no_bit(backend):
    q, k, v, _ = problem((1, 1, 4, 4, 3))
    order = permutation(4, 4, 13)
    expected = ordered_attention(q, k, v, 4, 4, 13, backend=backend)[:, :, order[:9]]
    for x in (q, k, v):
        x[:, :, order[9:]] = 1e15
    actual = ordered_attention(q, k, v, 4, 4, 13, backend=backend)[:, :, order[:9]]
    assert torch.equal(actual, expected)


# --- Layouts and sizes -------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", [0, 1, 6, 15])
def test_takes_any_layout(ordering, backend):
    q, k, v, _ = problem((2, 3, 4, 5, 6))
    expected = ordered_attention(q, k, v, 4, 5, ordering, backend=backend)
    for change in (
        lambda x: x.mT.contiguous().mT,  # channels first
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),  # heads after pixels
        lambda x: x.repeat_interleave(2, 3)[..., ::2],
        lambda x: x.flip(0).contiguous().flip(0),
    ):
        given_inputs = change(q), change(k), change(v)
        other = ordered_attention(*given_inputs, 4, 5, ordering, backend=backend)
        torch.testing.assert_close(other, expected)
    a, b, c = torch.stack((q, k, v), 3).unbind(3)  # as of one linear map for all three
    other = ordered_attention(a, b, c, 4, 5, ordering, backend=backend)
    torch.testing.assert_close(other, expected)


@pytest.mark.parametrize("ordering", [0, 1, 7, 16])
@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4, 5), (2, 0, 3, 4, 5), (2, 2, 0, 4, 5), (2, 2, 3, 0, 5)]
)
def test_nothing(shape, ordering, backend):
    inputs = problem(shape)
    parts = both_ways(ordered_attention, inputs, *shape[2:4], ordering, backend=backend)
    assert all(part.shape == inputs[0].shape for part in parts)


@pytest.mark.parametrize("backend", ["native", "torch"], indirect=True)
def test_stores_no_mask(backend):
    """Nothing that autograd keeps or that is made on the way grows with N²."""
    height, width = 24, 25
    inputs = problem((1, 1, height, width, 16))
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
                options = height, width, ordering
                both_ways(ordered_attention, given_inputs, *options, backend=backend)
    count = inputs[0].numel()
    assert count <= largest <= 5 * count < (height * width) ** 2


@pytest.mark.parametrize("backend", ["native", "torch"], indirect=True)
@pytest.mark.parametrize("shape", [(3, 2, 20, 20, 8), (1, 1, 29, 30, 8)])
def test_the_same_bits_for_any_number_of_threads(shape, threads, backend):
    inputs = problem(shape)
    results = []
    for count in threads:
        torch.set_num_threads(count)
        results.append(both_ways(ordered_attention, inputs, *shape[2:4], 11, backend=backend))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


# --- Gradients and compilers -------------------------------------------------------------------


@pytest.mark.parametrize("ordering", [0, *ALL])
def test_has_the_gradient_of_its_value(ordering, backend):
    inputs = [x.requires_grad_() for x in problem((1, 2, 2, 3, 2), torch.float64)[:3]]

    def call(q, k, v):
        return ordered_attention(q, k, v, 2, 3, ordering, backend=backend)

    torch.autograd.gradcheck(call, inputs)
    if backend == "reference":
        torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def test_has_no_second_derivative():
    q, k, v, _ = (x.requires_grad_() for x in problem((1, 1, 3, 4, 2)))
    out = ordered_attention(q, k, v, 3, 4, 9, backend="torch")
    (first,) = torch.autograd.grad(out.sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match=r"derivative for .* is not implemented"):
        torch.autograd.grad(first.sum(), k)
    if backends.why_not("native") is None:
        out = ordered_attention(q, k, v, 3, 4, 9, backend="native")
        with pytest.raises(NotImplementedError, match="ordered_attention has no second derivative"):
            torch.autograd.grad(out.sum(), q, create_graph=True)


def test_putting_in_order_is_a_sound_operator():
    x = torch.randn(2, 3, 20, 4)
    for given_x in (x, x.mT.contiguous().mT, x.double().requires_grad_()):
        for back in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
                operator = torch.ops.fastseg.reorder.default
                torch.library.opcheck(operator, (given_x, 4, 5, 12, back))


def test_the_native_operators_are_sound(native):
    q, k, v, grad = problem((2, 3, 4, 5, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
        for ordering, change in (
            (12, lambda x: x),
            (1, lambda x: x.mT.contiguous().mT),
            (0, lambda x: x.double()),
        ):
            options = 4, 5, ordering, 0.5, "native"
            q, k, v, grad = (change(x).requires_grad_() for x in (q, k, v, grad))
            operator = torch.ops.fastseg.ordered_attention.default
            torch.library.opcheck(operator, (q, k, v, *options))
            saved = [x.detach() for x in (grad, q, k, v, *operator(q, k, v, *options))]
            back = torch.ops.fastseg.ordered_attention_back.default
            torch.library.opcheck(back, (*saved, *options))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1, 97, 49), (2, 1, 14, 14, 33), (1, 5, 9, 10, 17)])
def test_on_every_instruction_set(shape, dtype, native):
    """Around the borders of blocks and packs, causal and not."""
    inputs = problem(shape, dtype)
    for ordering in (0, 1, 10):
        place = *shape[2:4], ordering
        exact = both_ways(_reference.ordered_attention, [x.double() for x in inputs], *place)
        for isa in native.isas():
            native.set_isa(isa)
            actual = both_ways(ordered_attention, inputs, *place, backend="native")
            for part, expected in zip(actual, exact, strict=True):
                assert relative_error(part, expected) <= 20 * torch.finfo(dtype).eps, isa


@pytest.mark.parametrize("scale", [1e-20, 1e3, 1e18])
def test_logits_of_any_size(scale, backend):
    """However large: the greatest alone counts then; and none can overflow."""
    inputs = problem((1, 1, 10, 20, 4))
    inputs[0] *= scale
    wide = [x.double() for x in inputs]
    exact = both_ways(_reference.ordered_attention, wide, 10, 20, 2)
    actual = both_ways(ordered_attention, inputs, 10, 20, 2, backend=backend)
    assert all(part.isfinite().all() for part in actual)
    assert relative_error(actual[0], exact[0]) <= 1e-3


def test_a_nan_stays_one(native):
    q, k, v, _ = problem((1, 1, 2, 5, 4))
    q[0, 0, 3, 1], k[0, 0, 6, 1] = torch.nan, torch.nan
    actual = ordered_attention(q, k, v, 2, 5, 1, backend="native")
    assert actual[0, 0].isnan().all(1).tolist() == 3 * [False] + [True] + 2 * [False] + 4 * [True]


def test_a_compiled_graph_runs_without_the_extension(monkeypatch):
    """On PyTorch's attention, computed anew for the gradients."""
    inputs = problem((2, 2, 4, 5, 6))
    options = 4, 5, 12, 0.5
    expected = both_ways(ordered_attention, inputs, *options, backend="torch")
    monkeypatch.setattr(backends, "why_not", lambda name: "not built" if name == "native" else None)

    def operator(*arguments):
        return torch.ops.fastseg.ordered_attention(*arguments)[0]

    for actual, other in zip(both_ways(operator, inputs, *options, "auto"), expected, strict=True):
        torch.testing.assert_close(actual, other)


@pytest.mark.parametrize("ordering", [1, 2, 8, 9, 16])
def test_putting_in_order_and_back(ordering):
    x = torch.randn(2, 20, 3, dtype=torch.float64, requires_grad=True)
    there = reorder(x, 4, 5, ordering)
    assert torch.equal(there, x[:, permutation(4, 5, ordering)])
    assert torch.equal(reorder(there, 4, 5, ordering, back=True), x)
    torch.autograd.gradgradcheck(lambda x: reorder(x, 4, 5, ordering).sin(), x, fast_mode=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
@pytest.mark.parametrize("backend", ["native", "torch"], indirect=True)
def test_compiles_whole_once_for_all_orderings(backend):
    inputs = problem((1, 2, 4, 5, 8))
    graphs = 0

    def call(q, k, v, ordering):
        return ordered_attention(q, k, v.mT.contiguous().mT, 4, 5, ordering, backend=backend)

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


def test_under_autocast(backend):
    q, k, v, _ = problem((1, 2, 4, 5, 8))
    with torch.autocast("cpu", torch.bfloat16):
        low = ordered_attention(q, k, v, 4, 5, 10, backend=backend)
    assert low.dtype == torch.bfloat16
    exact = ordered_attention(q, k, v, 4, 5, 10, backend=backend)
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
