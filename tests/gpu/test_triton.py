"""The Triton kernels against the reference: compiled on a GPU, interpreted where there is none."""

import math

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.compile import recorded
from fastseg import backends, gaussian_filter, gaussian_inpaint
from fastseg.ops.inpaint import _reference, _triton
from fastseg.ops.inpaint._gaussian import filter_rows

# Where there is a GPU, all of these need it: `pytest -m gpu` then runs them.
pytestmark = [pytest.mark.gpu] if torch.cuda.is_available() else []

AUTHORS = (5.0, 11, 2)
CASES = [
    ((1, 1, 1, 1), AUTHORS),
    ((2, 1, 3, 2), AUTHORS),
    ((2, 3, 9, 35), AUTHORS),  # below the reach along y, above it along x
    ((1, 2, 37, 21), AUTHORS),
    ((1, 1, 131, 5), AUTHORS),
    ((1, 1, 7, 131), (5.0, 21, 1)),
    ((1, 1, 33, 17), (2.0, 1, 1)),  # leaves x as it is
    ((1, 1, 20, 34), (0.7, 3, 5)),
    ((1, 1, 16, 32), (9.0, 41, 2)),  # far below the reach
]


@pytest.fixture
def backend(device, monkeypatch):
    """The name by which the public functions reach the Triton kernels."""
    if device.type == "cuda":
        return "triton"
    monkeypatch.setattr(backends, "load", lambda operator, device, backend: _triton)
    return "auto"


@pytest.fixture(autouse=True)
def poisoned():
    """Fresh memory is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def error(actual, expected):
    return ((actual.double().cpu() - expected).norm() / expected.norm()).item()


def assert_as_good_as_reference(actual, reference, expected):
    """Within twice the reference's error, and a rounding, of the float64 result."""
    assert actual.shape == expected.shape
    assert actual.dtype == reference.dtype
    # In float64 the result measured against has a rounding error of its own.
    rounding = torch.finfo(reference.dtype).eps * (4 if reference.dtype == torch.float64 else 1)
    assert error(actual, expected) <= 2 * (error(reference, expected) + rounding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "kernel"), CASES)
def test_filter_equals_the_reference(shape, kernel, dtype, device):
    x = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    reference = _reference.gaussian_filter(x, *kernel)
    expected = _reference.gaussian_filter(x.double(), *kernel)
    actual = _triton.gaussian_filter(x.to(device), *kernel)
    assert actual.is_contiguous()
    assert actual.device.type == device.type
    assert_as_good_as_reference(actual, reference, expected)


def test_filter_of_one_pixel_by_hand(device):
    """Weights 1/4, 1/2, 1/4, the middle of the row and its left edge, cut off."""
    sigma = math.sqrt(0.5 / math.log(2))  # exp(−1/2σ²) = 1/2
    x = torch.zeros(1, 2, 1, 3, device=device)
    x[0, 0, 0, 1] = 8
    x[0, 1, 0, 0] = 8
    once = _triton.gaussian_filter(x, sigma, 3, 1)
    # Along y only the middle weight meets the image.
    assert once[0, :, 0].tolist() == [[1, 2, 1], [2, 1, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inpaint_forward_and_backward(dtype, device, backend):
    rng = torch.Generator().manual_seed(1)
    x = torch.rand(2, 2, 13, 25, dtype=dtype, generator=rng)
    mask = torch.rand(2, 1, 13, 25, dtype=dtype, generator=rng)
    weight = torch.randn(x.shape, dtype=dtype, generator=rng)

    def run(function, *tensors, **options):
        x, mask, weight = (tensor.detach().clone() for tensor in tensors)
        out = function(x.requires_grad_(), mask.requires_grad_(), *AUTHORS, **options)
        (out * weight).sum().backward()
        return out.detach(), x.grad, mask.grad

    tensors = (x, mask, weight)
    actual = run(gaussian_inpaint, *(t.to(device) for t in tensors), backend=backend)
    reference = run(_reference.gaussian_inpaint, *tensors)
    expected = run(_reference.gaussian_inpaint, *(t.double() for t in tensors))
    for parts in zip(actual, reference, expected, strict=True):
        assert_as_good_as_reference(*parts)


def test_gradients_of_first_and_second_order(device, backend):
    rng = torch.Generator().manual_seed(2)
    x = torch.rand(1, 1, 3, 4, dtype=torch.float64, generator=rng).to(device).requires_grad_()
    mask = torch.rand(1, 1, 3, 4, dtype=torch.float64, generator=rng).to(device).requires_grad_()
    options = (1.0, 3, 2, backend)
    torch.autograd.gradcheck(
        lambda x, m: gaussian_inpaint(x, m, *options), (x, mask), fast_mode=True
    )
    torch.autograd.gradgradcheck(lambda x: gaussian_filter(x, *options).square(), x, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_blurred_in_float32(dtype, device, backend):
    x = torch.rand(1, 2, 12, 9, generator=torch.Generator().manual_seed(3)).to(device, dtype)
    actual = gaussian_filter(x, *AUTHORS, backend=backend)
    assert torch.equal(actual, _triton.gaussian_filter(x.float(), *AUTHORS).to(dtype))


def test_layouts_other_than_contiguous(device, backend):
    x = torch.randn(2, 2, 11, 20, generator=torch.Generator().manual_seed(4)).to(device)
    expected = gaussian_filter(x, *AUTHORS, backend=backend)
    wide = torch.stack([x, -x], -1)[..., 0]
    for other in (x.to(memory_format=torch.channels_last), x.mT.contiguous().mT, wide):
        assert not other.is_contiguous()
        assert torch.equal(gaussian_filter(other, *AUTHORS, backend=backend), expected)


def test_same_bits_every_time_and_anywhere_in_the_batch(device):
    x = torch.randn(3, 1, 19, 21, generator=torch.Generator().manual_seed(5)).to(device)
    whole = _triton.gaussian_filter(x, *AUTHORS)
    assert torch.equal(_triton.gaussian_filter(x, *AUTHORS), whole)
    for i in range(3):
        assert torch.equal(_triton.gaussian_filter(x[i : i + 1], *AUTHORS), whole[i : i + 1])


# --- Launches ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "kernel"), [CASES[i] for i in (0, 2, 5, 8)])
def test_no_access_outside_the_tensors(shape, kernel, device):
    """Each launch again, between walls: NaN around what it reads, known values around the rest."""
    x = torch.rand(shape, device=device)

    def walled(tensor, value):
        """A copy of `tensor` and the memory around it, 8 KiB more on either side."""
        memory = tensor.new_full((tensor.numel() + 4096,), value)
        inside = memory[2048:-2048].view(tensor.shape)
        return inside.copy_(tensor), memory

    with recorded() as launches:
        _triton.gaussian_filter(x, *kernel)
    source = x
    for launch in launches:
        out, memory = walled(torch.zeros_like(launch.arguments["p_out"]), 7.0)
        rows, _ = walled(launch.arguments["p_rows"], torch.nan)
        source, _ = walled(source, torch.nan)
        arguments = launch.arguments | {"p_x": source, "p_rows": rows, "p_out": out}
        launch.kernel[launch.blocks](**arguments, **launch.options)
        assert (memory[:2048] == 7).all()
        assert (memory[-2048:] == 7).all()
        source = out
    assert torch.equal(source, _triton.gaussian_filter(x, *kernel))


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [
        ((1, 1, 1, 1), AUTHORS),
        ((64, 4, 128, 128), AUTHORS),
        ((3, 1, 37, 1000), (5.0, 21, 1)),
        ((70_000, 1, 20, 20), (1.0, 5, 3)),  # more planes than a second axis of a grid can count
        ((1, 1, 50_000, 50_000), AUTHORS),  # more pixels than int32 can
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_launch(shape, kernel, dtype):
    """Two launches with every block once, the second on the transposed result of the first."""
    batch, channels, height, width = shape
    radius = kernel[1] // 2 * kernel[2]
    x = torch.empty(shape, dtype=dtype, device="meta")
    with recorded() as launches:
        out = _triton.gaussian_filter(x, *kernel)
    first, second = (launch.arguments for launch in launches)
    assert first["p_x"] is x
    assert second["p_x"] is first["p_out"]
    assert out is second["p_out"]
    assert first["p_out"].shape == (batch, channels, width, height)
    assert out.shape == shape
    for launch, (h, w) in zip(launches, ((height, width), (width, height)), strict=True):
        arguments = launch.arguments
        assert set(arguments) == set(launch.kernel.arg_names)
        assert (arguments["H"], arguments["W"], arguments["radius"]) == (h, w, radius)
        block_h, block_w = arguments["BLOCK_H"], arguments["BLOCK_W"]
        blocks = batch * channels * math.ceil(h / block_h) * math.ceil(w / block_w)
        assert launch.blocks == (blocks,)
        assert blocks < 2**31
        # What a CUDA block may have, and what `tl.arange` and `tl.dot` take.
        assert 1 <= launch.options["num_warps"] <= 32
        assert all(n & (n - 1) == 0 for n in (block_h, block_w, arguments["BLOCK_K"]))
        rows = filter_rows(h, *kernel)
        assert arguments["p_rows"].shape == rows.shape
        for tensor in (arguments["p_x"], arguments["p_rows"], arguments["p_out"]):
            assert tensor.is_contiguous()
            assert tensor.dtype == dtype
            assert tensor.device == x.device


def test_nothing_is_copied_to_the_device_again(device):
    x = torch.rand(1, 1, 30, 40, device=device)
    with recorded() as launches:
        _triton.gaussian_filter(x, *AUTHORS)
        _triton.gaussian_filter(x.mT.contiguous(), *AUTHORS)
    assert len({launch.arguments["p_rows"].data_ptr() for launch in launches}) == 1


# --- What only a GPU can show ------------------------------------------------------------------


@pytest.mark.gpu
def test_replays_from_a_cuda_graph():
    x = torch.rand(2, 3, 40, 50, device="cuda")
    mask = torch.rand(2, 1, 40, 50, device="cuda", requires_grad=True)

    def step():
        out = gaussian_inpaint(x, mask, backend="triton")
        return torch.autograd.grad(out.square().sum(), mask)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    x.copy_(torch.rand_like(x))
    graph.replay()
    assert torch.equal(captured, step())


@pytest.mark.gpu
def test_launches_on_the_current_stream():
    x = torch.zeros(8, 4, 256, 256, device="cuda")
    _triton.gaussian_filter(x, *AUTHORS)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        x.fill_(1)
        actual = _triton.gaussian_filter(x, *AUTHORS)
    side.synchronize()
    assert torch.equal(actual, _triton.gaussian_filter(torch.ones_like(x), *AUTHORS))


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1, 1, 50_000, 50_000), (2**17 + 1, 1, 128, 128)])
def test_more_than_2_to_31_pixels(shape):
    if torch.cuda.mem_get_info()[0] < 40 << 30:
        pytest.skip("needs 40 GiB of GPU memory")
    x = torch.zeros(shape, device="cuda")
    corner = x[-1:, :, -64:, -64:]
    corner.copy_(torch.rand_like(corner))
    actual = _triton.gaussian_filter(x, *AUTHORS)[-1:, :, -40:, -40:]
    expected = _triton.gaussian_filter(corner.contiguous(), *AUTHORS)[..., -40:, -40:]
    torch.testing.assert_close(actual, expected)
