"""The Triton kernel of masked_conv2d against the reference, where there is no GPU interpreted."""

# mypy: disable-error-code="call-arg, misc, arg-type"

import math

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.compile import recorded
from fastseg import backends, masked_conv2d, masked_conv2d_pair
from fastseg.ops.masked_conv import _reference, _triton

# Where there is a GPU, all of these need it: `pytest -m gpu` then runs them.
pytestmark = [pytest.mark.gpu] if torch.cuda.is_available() else []
pytestmark += [pytest.mark.usefixtures("poisoned")]

SHAPES = [  # B, C, O, H, W, F, dilation, groups
    (1, 1, 1, 1, 1, 3, 1, 1),
    (2, 3, 5, 5, 7, 3, 1, 1),
    (1, 4, 34, 3, 4, 5, 2, 2),  # more channels than the smallest tile
    (1, 70, 2, 4, 5, 1, 1, 1),
]


@pytest.fixture
def backend(device, monkeypatch):
    """The name by which the public functions reach the Triton kernel."""
    if device.type == "cuda":
        return "triton"
    monkeypatch.setattr(backends, "load", lambda operator, device, backend: _triton)
    return "auto"


def problem(shape, dtype=torch.float32, device="cpu"):
    """x, weight, bias, residual."""
    batch, channels, outs, height, width, size, _, groups = shape
    rng = torch.Generator().manual_seed(0)
    sizes = (
        (batch, channels, height, width),
        (outs, channels // groups, size, size),
        (outs,),
        (batch, outs, height, width),
    )
    return tuple(torch.randn(s, generator=rng, dtype=torch.double).to(device, dtype) for s in sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize(("shape", "ordering"), list(zip(SHAPES, (1, 6, 3, 8), strict=True)))
def test_equals_the_reference(shape, ordering, dtype, device):
    """Within twice the reference's error, and a rounding, of the float64 result."""
    options = ordering, *shape[6:], True
    tensors = problem(shape, dtype)
    wide = [tensor.double() for tensor in tensors]
    actual = _triton.masked_conv2d(*(t.to(device) for t in tensors), *options).cpu()
    assert actual.dtype == dtype
    exact = _reference.masked_conv2d(*wide, *options)
    plain = _reference.masked_conv2d(*tensors, *options)
    error, allowed = ((part.double() - exact).norm() for part in (actual, plain))
    assert error <= 2 * allowed + 4 * torch.finfo(dtype).eps * exact.norm()


@pytest.mark.parametrize("ordering", range(9))
def test_every_ordering(ordering, device):
    """In numbers whose sums are exact, without bias, residual and ReLU."""
    shape = (1, 2, 3, 4, 5, 3, 2, 1)
    x, weight, _, _ = (tensor.mul(2).round() for tensor in problem(shape))
    options = None, None, ordering, 2, 1, False
    actual = _triton.masked_conv2d(x.to(device), weight.to(device), *options).cpu()
    assert torch.equal(actual, _reference.masked_conv2d(x, weight, *options))


def test_gradients_and_pairs(device, backend):
    x, weight, bias, _ = problem((1, 2, 2, 2, 3, 3, 1, 1), torch.float64, device)
    inputs = tuple(tensor.requires_grad_() for tensor in (x, weight, bias))
    convolve = lambda *t: masked_conv2d(*t, 2, activation="relu", backend=backend)  # noqa: E731
    torch.autograd.gradcheck(convolve, inputs, fast_mode=True)
    torch.autograd.gradgradcheck(convolve, inputs, fast_mode=True)
    for orderings in ((1, 7), (3, 0)):
        pair = masked_conv2d_pair(*inputs, orderings, backend=backend)
        for out, ordering in zip(pair, orderings, strict=True):
            single = masked_conv2d(*inputs, ordering, backend=backend)
            assert torch.allclose(out, single, rtol=1e-13)


def test_same_bits_every_time_and_anywhere_in_the_batch(device):
    x, weight, bias, residual = problem((3, 3, 4, 5, 9, 3, 1, 1), device=device)
    options = 4, 1, 1, True
    whole = _triton.masked_conv2d(x, weight, bias, residual, *options)
    assert torch.equal(_triton.masked_conv2d(x, weight, bias, residual, *options), whole)
    for i in range(3):
        alone = _triton.masked_conv2d(x[i : i + 1], weight, bias, residual[i : i + 1], *options)
        assert torch.allclose(alone, whole[i : i + 1], atol=1e-6)
        if device.type == "cuda":  # NumPy's products, of the interpreter, know places in a block
            assert torch.equal(alone, whole[i : i + 1])


def test_layout(device, backend):
    x, weight, _, _ = problem(SHAPES[1], device=device)
    expected = masked_conv2d(x, weight, None, 5, backend=backend)
    assert expected.is_contiguous()
    last = masked_conv2d(x.to(memory_format=torch.channels_last), weight, None, 5, backend=backend)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, expected)


@pytest.mark.parametrize("shape", SHAPES[1:3])
def test_no_access_outside_the_tensors(shape, device):
    """The launch again, between walls: NaN around what it reads, known values around the rest."""
    tensors = problem(shape, device=device)

    def walled(tensor, value):
        """A copy of `tensor` and the memory around it, 8 KiB more on either side."""
        memory = tensor.new_full((tensor.numel() + 4096,), value)
        inside = torch.as_strided(memory[2048:], tensor.shape, tensor.stride())
        return inside.copy_(tensor), memory

    with recorded() as launches:
        _triton.masked_conv2d(*tensors, 1, *shape[6:], False)
    (launch,) = launches
    names = "p_x", "p_weight", "p_bias", "p_residual"
    read = {name: walled(launch.arguments[name], torch.nan)[0] for name in names}
    out, memory = walled(torch.zeros_like(launch.arguments["p_first"]), 7.0)
    written = {"p_first": out, "p_second": out}
    launch.kernel[launch.blocks](**launch.arguments | read | written, **launch.options)
    assert (memory[:2048] == 7).all()
    assert (memory[-2048:] == 7).all()
    assert torch.equal(out, _triton.masked_conv2d(*tensors, 1, *shape[6:], False))


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1, 1, 3, 1, 1),
        (4, 256, 512, 50, 50, 3, 1, 1),
        (64, 96, 30, 200, 200, 7, 2, 3),
        (3, 8, 8, 40_000, 50_000, 5, 1, 1),  # more values than int32 can count
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_launch(shape, dtype):
    """Every pixel and channel in one block, two orderings in one launch."""
    batch, channels, outs, height, width, size, dilation, groups = shape
    x = torch.empty((batch, channels, height, width), dtype=dtype, device="meta")
    weight = torch.empty((outs, channels // groups, size, size), dtype=dtype, device="meta")
    with recorded() as launches:
        results = _triton.masked_conv2d_pair(x, weight, None, 2, 8, dilation, groups, True)
    (launch,) = launches
    arguments = launch.arguments
    assert set(arguments) == set(launch.kernel.arg_names)
    assert [out.shape for out in results] == [(batch, outs, height, width)] * 2
    assert arguments["TAPS"] == size * size - size // 2
    shape_of_weights = (2, arguments["TAPS"], channels // groups, outs)
    assert arguments["p_weight"].shape == shape_of_weights
    blocks = math.ceil(batch * height * width / arguments["BLOCK_P"])
    assert launch.blocks[0] == 2 * blocks < 2**31
    assert launch.blocks[1] == groups * math.ceil(outs // groups / arguments["BLOCK_O"]) < 65536
    assert (arguments["first"], arguments["second"], arguments["top"]) == (2, 8, size - 1)
    for name in ("BLOCK_P", "BLOCK_O", "BLOCK_C"):
        assert arguments[name] >= 16


def test_precision_is_that_of_convolutions(monkeypatch):
    x = torch.empty((1, 2, 8, 8), device="meta")
    weight = torch.empty((3, 2, 3, 3), device="meta")
    found = []
    for allowed in (False, True):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        with recorded() as launches:
            _triton.masked_conv2d(x, weight, None, None, 1, 1, 1, False)
            _triton.masked_conv2d(x.double(), weight.double(), None, None, 1, 1, 1, False)
        found.append([launch.arguments["PRECISION"] for launch in launches])
    assert found == [["ieee", "ieee"], ["tf32", "ieee"]]
