"""masked_conv2d and masked_conv2d_pair: layouts, threads, autograd, compiler, refusals."""

# mypy: disable-error-code="call-arg, misc, arg-type"

import shutil
import warnings

import numpy as np
import pytest
import torch

from fastseg import backends, masked_conv2d, masked_conv2d_pair
from tests.ops.masked_problems import (
    BACKENDS,
    SHAPES,
    chosen,
    integers,
    problem,
    value_and_gradients,
)

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch) -> str:
    return chosen(request.param, monkeypatch)


# --- Kinds of input ----------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", [0, 1, 2, 3, 4])
def test_takes_any_layout(ordering, backend):
    tensors = [integers(t.shape, i) for i, t in enumerate(problem(SHAPES[1]))]
    x, weight, bias, grad = tensors
    convolve = lambda x, w, b: masked_conv2d(x, w, b, ordering, backend=backend)  # noqa: E731
    expected = value_and_gradients(convolve, (x, weight, bias), grad)
    last = torch.channels_last
    for other in (x.to(memory_format=last), x.mT.contiguous().mT, torch.stack([x, x], -1)[..., 0]):
        assert not other.is_contiguous()
        for w in (weight, weight.to(memory_format=last)):
            for g in (grad, grad.to(memory_format=last), grad[:, :1].expand_as(grad)):
                actual = value_and_gradients(convolve, (other, w, bias), g)
                assert torch.equal(actual[0], expected[0])
                if g is not grad and g.stride(1) == 0:
                    continue
                assert all(map(torch.equal, actual, expected))
                assert (actual[0].stride(1) == 1) == other.is_contiguous(memory_format=last)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_nothing(shape, backend):
    x = torch.rand(shape, requires_grad=True)
    weight, bias = torch.rand(2, 3, 3, 3, requires_grad=True), torch.rand(2, requires_grad=True)
    for ordering in (0, 1, 2):
        out = masked_conv2d(x, weight, bias, ordering, activation="relu", backend=backend)
        assert out.shape == (shape[0], 2, *shape[2:])
        gradients = torch.autograd.grad(out.sum(), (x, weight, bias))
        assert all((gradient == 0).all() for gradient in gradients)
        pair = masked_conv2d_pair(x, weight, bias, (ordering, 3), backend=backend)
        assert [out.shape for out in pair] == [(shape[0], 2, *shape[2:])] * 2


@pytest.mark.parametrize("channels", [5, 40])  # by PyTorch's convolution, by our own
def test_same_bits_for_any_threads(channels, threads):
    *tensors, grad = problem((3, channels, 100, 20, 21, 3, 1, 1))
    convolve = lambda *t: masked_conv2d(*t, 3)  # noqa: E731
    kept = slice(2 if channels == 5 else None)  # oneDNN sums weights' gradients by threads
    expected = value_and_gradients(convolve, tensors, grad)[kept]
    for count in threads:
        torch.set_num_threads(count)
        assert all(map(torch.equal, value_and_gradients(convolve, tensors, grad)[kept], expected))


def test_autocast(backend):
    x, weight, bias, _ = problem(SHAPES[1])
    half = [t.bfloat16() for t in (x, weight, bias)]
    expected = masked_conv2d(
        *half, 1, residual=half[0][:, :1].expand(-1, 5, -1, -1), backend=backend
    )
    with torch.autocast("cpu", torch.bfloat16):
        actual = masked_conv2d(
            x, weight, bias, 1, residual=x[:, :1].expand(-1, 5, -1, -1), backend=backend
        )
        assert actual.dtype == torch.bfloat16
        assert torch.equal(actual, expected)
        wide = masked_conv2d(x.double(), weight.double(), None, 1, backend=backend)
        assert wide.dtype == torch.float64


def test_backends():
    assert backends.resolve("masked_conv2d", torch.device("cpu")) == "native"
    assert backends.resolve("masked_conv2d", torch.device("cuda")) == "torch"
    with pytest.raises(backends.BackendUnavailable, match="'cuda' cannot run masked_conv2d: it ha"):
        masked_conv2d(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1), backend="cuda")


@pytest.mark.parametrize(
    "change",
    [
        {"weight": torch.randn(24, 23, 3, 3)},
        {"weight": torch.randn(23, 24, 3, 3)},
        {"weight": torch.randn(24, 24, 5, 5)},
        {"ordering": 0},
        {"dilation": 2},
        {"weight": torch.randn(48, 24, 3, 3), "groups": 2},
    ],
)
def test_what_pytorch_does_better(change):
    """Small or other kernels are PyTorch's, to the bit."""
    options = {"weight": torch.randn(24, 24, 3, 3), "ordering": 1, "groups": 1, **change}
    x = torch.randn(1, options["weight"].shape[1] * options["groups"], 6, 7)
    ours, theirs = (masked_conv2d(x, backend=backend, **options) for backend in ("native", "torch"))
    assert torch.equal(ours, theirs)
    assert ours.stride() == theirs.stride()


# --- Gradients, operator, compiler -------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(
    ("ordering", "dilation", "groups"), [(0, 1, 1), (1, 1, 2), (4, 2, 1), (7, 1, 1)]
)
def test_gradients_of_any_order(ordering, dilation, groups, activation, backend):
    shape = (1, 2, 2, 3, 4, 3, dilation, groups)
    x, weight, bias, residual = (t.requires_grad_() for t in problem(shape, torch.float64))

    def convolve(x, weight, bias, residual):
        options = {"activation": activation, "backend": backend}
        return masked_conv2d(
            x, weight, bias, ordering, dilation, groups, residual=residual, **options
        )

    torch.autograd.gradcheck(convolve, (x, weight, bias, residual))
    torch.autograd.gradgradcheck(convolve, (x, weight, bias, residual), fast_mode=True)


def test_gradients_of_a_pair(backend):
    tensors = problem((1, 1, 2, 3, 3, 3, 1, 1), torch.float64)[:3]
    tensors = tuple(tensor.requires_grad_() for tensor in tensors)
    pair = lambda *t: masked_conv2d_pair(*t, (2, 8), activation="relu", backend=backend)  # noqa: E731
    torch.autograd.gradcheck(pair, tensors)
    torch.autograd.gradgradcheck(pair, tensors, fast_mode=True)


def opcheck(operator, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
        torch.library.opcheck(operator, arguments)


def test_sound_operators(backend):
    x, weight, bias, grad = problem((2, 3, 4, 5, 6, 3, 1, 1))
    last = torch.channels_last
    for view in (x, x.mT.contiguous().mT, x.to(memory_format=last)):
        for wants in (False, True):
            of_x, of_weight, of_grad = (
                t.detach().requires_grad_(wants) for t in (view, weight, grad)
            )
            for ordering, relu in ((1, False), (2, True)):
                options = ordering, 1, 1, relu, backend
                single = torch.ops.fastseg.masked_conv2d.default
                opcheck(single, of_x, of_weight, bias, of_grad if relu else None, *options)
            pair = torch.ops.fastseg.masked_conv2d_pair.default
            opcheck(pair, of_x, of_weight, None, 1, 2, 1, 1, False, backend)
            of_weights = torch.ops.fastseg.masked_conv2d_weight.default
            opcheck(of_weights, of_grad, of_x, 3, 4, 1, 1, backend)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_compiles_whole(layout, backend):
    whole = backend == "torch" and layout == torch.channels_last and shutil.which("g++")
    compiler = "inductor" if whole else "aot_eager"
    x, weight, bias, _ = problem((2, 3, 4, 5, 7, 3, 1, 1))
    x = x.contiguous(memory_format=layout)

    def loss(x, weight, bias):
        out = masked_conv2d(x, weight, bias, 2, activation="relu", backend=backend)
        one, other = masked_conv2d_pair(
            out, weight[:, :1].repeat(1, 4, 1, 1), None, backend=backend
        )
        return (one * other.cos()).sum()

    compiled = torch.compile(loss, fullgraph=True, backend=compiler)
    grad = torch.ones(())
    actual, expected = (value_and_gradients(f, (x, weight, bias), grad) for f in (compiled, loss))
    for part, other in zip(actual, expected, strict=True):
        assert torch.allclose(part, other, rtol=1e-4, atol=1e-5)


# --- Bad input ---------------------------------------------------------------------------------

X, W = torch.zeros(2, 4, 5, 6), torch.zeros(6, 4, 3, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((2, 4, 5, 6))}, TypeError, "`x` must be a torch.Tensor, got ndarray"),
        ({"x": X[0]}, ValueError, r"`x` must have 4 dimensions \(B, C, H, W\), got .*\(4, 5, 6\)"),
        ({"x": X.int()}, TypeError, "`x` must be float32 or float64 or .*, got int32"),
        ({"weight": 1}, TypeError, "`weight` must be a torch.Tensor, got int"),
        ({"weight": W[0]}, ValueError, r"`weight` must have 4 dimensions \(O, C, F, F\)"),
        ({"weight": W.double()}, TypeError, "`weight` must be float32, got float64"),
        ({"weight": W.to("meta")}, ValueError, r"`weight` must be on the device of `x` \(cpu\)"),
        ({"weight": W[..., :2]}, ValueError, "`weight` must be 1×1, 3×3, 5×5 or 7×7, got 3×2"),
        ({"weight": torch.zeros(6, 4, 9, 9)}, ValueError, "`weight` must be 1×1, .*, got 9×9"),
        ({"weight": W[:, :3]}, ValueError, r"`weight` must have `x`'s 4 channels .*, got 3"),
        (
            {"weight": W[:0]},
            ValueError,
            r"`weight` must have a multiple of `groups` \(1\) rows, g.* 0",
        ),
        ({"groups": 4}, ValueError, r"`weight` must have a multiple of `groups` \(4\) rows, got 6"),
        ({"groups": 2}, ValueError, r"channels ÷ `groups` \(2\), at least 1, got 4"),
        ({"groups": 0}, ValueError, "`groups` must be an integer of at least 1, got 0"),
        ({"bias": X}, ValueError, r"`bias` must have shape \(6\), got \(2, 4, 5, 6\)"),
        ({"bias": X[0, 0, 0].half()}, TypeError, "`bias` must be float32, got float16"),
        ({"bias": W[:, 0, 0, 0].to("meta")}, ValueError, "`bias` must be on the device of `x`"),
        ({"dilation": 0}, ValueError, "`dilation` must be an integer of at least 1, got 0"),
        ({"dilation": 1.5}, TypeError, "`dilation` must be an integer, got float"),
        (
            {"activation": "gelu"},
            ValueError,
            "`activation` must be one of None, 'relu', got 'gelu'",
        ),
        ({"backend": "gpu"}, ValueError, "`backend` must be one of 'auto', .* got 'gpu'"),
    ],
)
def test_refusals(change, error, message):
    for convolve in (masked_conv2d, masked_conv2d_pair):
        with pytest.raises(error, match=message):
            convolve(**{"x": X, "weight": W, **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"ordering": 9}, ValueError, "`ordering` must be an integer from 0 to 8, got 9"),
        ({"ordering": -1}, ValueError, "`ordering` must be an integer of at least 0, got -1"),
        ({"ordering": "1"}, TypeError, "`ordering` must be an integer, got str"),
        ({"residual": X}, ValueError, r"`residual` must have shape \(2, 6, 5, 6\), got \(2, 4"),
        ({"residual": 1}, TypeError, "`residual` must be a torch.Tensor, got int"),
        (
            {"residual": torch.zeros(2, 6, 5, 6).half()},
            TypeError,
            "`residual` must be float32, got",
        ),
        ({"residual": torch.zeros(2, 6, 5, 6, device="meta")}, ValueError, "`residual` must be on"),
    ],
)
def test_refusals_of_one(change, error, message):
    with pytest.raises(error, match=message):
        masked_conv2d(**{"x": X, "weight": W, **change})


@pytest.mark.parametrize(
    ("orderings", "error", "message"),
    [
        (1, ValueError, "`orderings` must be two of 0 … 8, got 1"),
        ((1, 2, 3), ValueError, r"`orderings` must be two of 0 … 8, got \(1, 2, 3\)"),
        ((1, 9), ValueError, "`orderings` must be an integer from 0 to 8, got 9"),
    ],
)
def test_refusals_of_a_pair(orderings, error, message):
    with pytest.raises(error, match=message):
        masked_conv2d_pair(X, W, None, orderings)
