"""The Triton kernels of soft_ncut against the reference, where there is no GPU interpreted."""

import math

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.compile import recorded
from fastseg import backends, soft_ncut
from fastseg.ops.ncut import _reference, _triton
from tests.ops.ncut_problems import gradients

# Where there is a GPU, all of these need it: `pytest -m gpu` then runs them.
pytestmark = [pytest.mark.gpu] if torch.cuda.is_available() else []
pytestmark += [pytest.mark.usefixtures("poisoned")]

OPTIONS = (3, 40.0, 4.0)  # radius and sigmas
SHAPES = [  # B, K, C, H, W
    (1, 1, 1, 1, 1),
    (2, 3, 3, 5, 31),
    (1, 33, 1, 3, 4),  # more planes than a program sums
    (1, 2, 2, 1, 140),
]


def problem(shape, dtype=torch.float32):
    batch, classes, channels, height, width = shape
    rng = torch.Generator().manual_seed(0)
    p = torch.rand((batch, classes, height, width), generator=rng, dtype=dtype)
    colours = torch.rand((batch, channels, height, width), generator=rng, dtype=dtype) * 255
    return p, colours


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_reference(shape, dtype, device):
    """Within twice the reference's error, and a rounding, of the float64 result."""
    p, colours = problem(shape, dtype)
    actual = _triton.ncut_sums(p.to(device), colours.to(device), *OPTIONS)
    plain = _reference.ncut_sums(p, colours, *OPTIONS)
    exact = _reference.ncut_sums(p.double(), colours.double(), *OPTIONS)
    for part, other, expected in zip(actual, plain, exact, strict=True):
        assert part.shape == expected.shape
        assert part.dtype == dtype
        assert part.is_contiguous()
        error, allowed = (
            (x.cpu().double() - expected).norm() / expected.norm() for x in (part, other)
        )
        assert error <= 2 * allowed + 4 * torch.finfo(dtype).eps


def test_gradients_of_first_and_second_order(device, monkeypatch):
    backend = "triton"
    if device.type == "cpu":
        backend = "auto"
        monkeypatch.setattr(backends, "load", lambda operator, device, backend: _triton)
    p, colours = (x.to(device) for x in problem((1, 2, 1, 2, 3), torch.float64))
    loss = lambda p: soft_ncut(  # noqa: E731
        p, colours, *OPTIONS, value_range=(0, 255), backend=backend
    )
    torch.autograd.gradcheck(loss, p.requires_grad_(), fast_mode=True)
    torch.autograd.gradgradcheck(loss, p, fast_mode=True)


def test_same_bits_every_time_and_anywhere_in_the_batch(device):
    p, colours = (x.to(device) for x in problem((2, 3, 1, 5, 30)))
    whole = _triton.ncut_sums(p, colours, *OPTIONS)
    for i in range(2):
        alone = _triton.ncut_sums(p[i : i + 1], colours[i : i + 1], *OPTIONS)
        assert all(torch.equal(a, b[i : i + 1]) for a, b in zip(alone, whole, strict=True))


def walled(tensor, value):
    """A copy of `tensor` and the memory around it, 8 KiB more on either side."""
    memory = tensor.new_full((tensor.numel() + 4096,), value)
    inside = memory[2048:-2048].view(tensor.shape)
    return inside.copy_(tensor), memory


@pytest.mark.parametrize("shape", SHAPES[1:3])
def test_no_access_outside_the_tensors(shape, device):
    """The launch again, between walls: NaN around what it reads, known values around the rest."""
    p, colours = (x.to(device) for x in problem(shape))
    with recorded() as launches:
        _triton.ncut_sums(p, colours, *OPTIONS)
    (launch,) = launches
    read = {n: walled(launch.arguments[n], torch.nan)[0] for n in ("p_p", "p_colours", "p_rates")}
    written = {
        n: walled(torch.zeros_like(launch.arguments[n]), 7.0)
        for n in ("p_filtered", "p_degree", "p_parts")
    }
    outputs = {name: inside for name, (inside, _) in written.items()}
    launch.kernel[launch.blocks](**launch.arguments | read | outputs, **launch.options)
    for _, memory in written.values():
        assert (memory[:2048] == 7).all()
        assert (memory[-2048:] == 7).all()
    inner, outer, filtered, degree = _triton.ncut_sums(p, colours, *OPTIONS)
    assert torch.equal(outputs["p_filtered"], filtered)
    assert torch.equal(outputs["p_degree"], degree)
    assert torch.equal(outputs["p_parts"].sum(3), torch.stack([inner, outer], 1))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (5, 20, 3, 224, 224), (70_000, 45, 3, 20, 20)])
def test_launch(shape):
    """Every block once, in one dimension: the others count to 65,535 only."""
    batch, classes, channels, height, width = shape
    p = torch.empty((batch, classes, height, width), device="meta")
    colours = torch.empty((batch, channels, height, width), device="meta")
    with recorded() as launches:
        parts = _triton.ncut_sums(p, colours, *OPTIONS)
    (launch,) = launches
    arguments = launch.arguments
    assert set(arguments) == set(launch.kernel.arg_names)
    block_k, block_p = arguments["BLOCK_K"], arguments["BLOCK_P"]
    blocks = math.ceil(height * width / block_p)
    assert arguments["blocks"] == blocks
    assert launch.blocks == (batch * math.ceil(classes / block_k) * blocks,)
    assert launch.blocks[0] < 2**31
    assert arguments["p_parts"].shape == (batch, 2, classes, blocks)
    assert [part.shape for part in parts] == [
        (batch, classes), (batch, classes), p.shape, (batch, height, width),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 31), (1, 2, 37, 45)])
def test_gradient(shape, dtype, device):
    """Equals the reference's; and again with NaN around what is read, known values around it."""
    inputs = [x.to(device) for x in gradients(shape, dtype)]
    expected = _reference.ncut_back(*inputs)
    grad = _triton.ncut_back(*inputs)
    assert torch.allclose(grad, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)
    read = [walled(x, torch.nan)[0] for x in inputs]
    inside, memory = walled(torch.zeros_like(grad), 7.0)
    with recorded() as launches:
        _triton.ncut_back(*read)
    (launch,) = launches
    launch.kernel[launch.blocks](**launch.arguments | {"p_grad": inside}, **launch.options)
    assert torch.equal(inside, grad)
    assert (memory[:2048] == 7).all()
    assert (memory[-2048:] == 7).all()
