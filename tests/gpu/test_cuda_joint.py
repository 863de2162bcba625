"""csrc/cuda/spectra.cu and its launcher, on the CPU (conftest.py). On a GPU the tests at the end
run the kernels themselves."""

from types import ModuleType

import numpy as np
import pytest
import torch

from fastseg.ops.joint import _fft, _reference
from tests.ops.joint_fields import random

pytestmark = pytest.mark.usefixtures("poisoned")

SIZES = [  # H, W; T; rows and columns of the spectrum's plane
    (1, 1, 0, (2, 2)),
    (9, 13, 1, (10, 14)),
    (20, 33, 4, (24, 40)),
    (40, 16, 2, (42, 18)),
]
DTYPES = [torch.float32, torch.float64]


@pytest.fixture
def cuda(launcher) -> ModuleType:
    return launcher("joint")


def places(n: int) -> list[int]:
    """Where the kernel leaves each frequency: digits reversed."""
    if n == 1:
        return [0]
    radix = next(r for r in (4, 2, 3, 5, 7) if n % r == 0)
    inner = places(n // radix)
    return [f % radix * (n // radix) + inner[f // radix] for f in range(n)]


def in_order(hat: torch.Tensor) -> torch.Tensor:
    """Spectra as torch.fft.rfft2 has them."""
    half = hat.shape[-1] - 1
    return hat[..., places(hat.shape[-2]), :][..., [*places(half), half]]


def error(actual, expected):
    return ((actual.cpu() - expected).norm() / expected.norm()).item()


def allowed(dtype):
    return 1e-14 if dtype == torch.float64 else 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("height", "width", "radius", "size"), SIZES)
def test_spectra_and_back(height, width, radius, size, dtype, cuda):
    """For both shifts that joints need, and into planes that do not follow each other."""
    x = random(2, 3, height, width, dtype=dtype)
    for shift in {0, min(radius, height - 1, width - 1)}:
        hat = cuda.plane_spectra(x, size, shift)
        assert hat.dtype == dtype.to_complex()
        expected = _fft.plane_spectra(x.double(), size, shift)
        assert hat.shape == expected.shape
        assert error(in_order(hat), expected) <= allowed(dtype)
        memory = torch.full((3, 2, height, width), 7, dtype=dtype)
        cuda.plane_pixels(hat, size, memory.transpose(0, 1), shift)
        assert error(memory.transpose(0, 1), x) <= allowed(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("height", "width", "radius", "size"), SIZES)
def test_joints_and_gradients(height, width, radius, size, dtype, cuda):
    """The algorithm with these transforms against the definition."""
    p, q = (random(2, k, height, width, seed=k, dtype=torch.float64) for k in (3, 2))
    ways = _fft.spectral_products, cuda.plane_spectra, cuda.plane_pixels
    p, q = p.to(dtype), q.to(dtype)
    joint, (_, q_hat) = _fft.spectral_joint(p, q, radius, *ways)
    assert q_hat.shape[2:] == _fft.spectrum_size(p.shape, radius) == (size[0], size[1] // 2 + 1)
    expected = _reference.displaced_joint(p.double(), q.double(), radius)
    assert error(joint, expected) <= allowed(dtype)
    weights = random(*joint.shape, dtype=dtype)
    expected = _reference.displaced_mix(weights.double(), q.double(), radius)
    for spectra in (q_hat, q.new_empty(0)):
        mixed = _fft.spectral_mix(weights, q, spectra, radius, *ways)
        assert error(mixed, expected) <= allowed(dtype)


def test_any_order_of_threads(host, cuda):
    """Threads in order, in the opposite order and in random ones: were there a race, some other
    order would give other bits."""
    x, out = random(1, 2, 20, 33), torch.empty(1, 2, 20, 33)
    expected = cuda.plane_spectra(x, (24, 40), 3)
    cuda.plane_pixels(expected, (24, 40), out, 3)
    for host.order in (1, 2, 3):
        hat = cuda.plane_spectra(x, (24, 40), 3)
        assert torch.equal(torch.view_as_real(hat), torch.view_as_real(expected))
        again = torch.empty_like(out)
        cuda.plane_pixels(hat, (24, 40), again, 3)
        assert torch.equal(again, out)


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizer(sanitizer, sanitized):
    """Three planes by two blocks, there and back: no race, and no access outside memory."""
    sanitized("race_spectra.cpp", sanitizer, "-DROWS=10", "-DCOLUMNS=14")


def test_launch(host, cuda):
    """A plane a block, as many threads as fill a multiprocessor, as much shared memory as it needs;
    memory of the result is passed by its strides."""
    x = random(4, 5, 20, 33)
    out = torch.empty(5, 4, 20, 33).transpose(0, 1)
    hat = cuda.plane_spectra(x, (24, 40))
    cuda.plane_pixels(hat, (24, 40), out, 2)
    forth, back = host.launches
    needed = 8 * (24 * 21 + 24 + 40)
    for launch, shift in ((forth, 0), (back, 2)):
        assert launch["grid"] == launch["count"] == 20
        assert (launch["block"], launch["shared"]) == (512, needed)
        assert [launch[name] for name in ("height", "width", "shift")] == [20, 33, shift]
    assert [back[name] for name in ("inner", "outer_stride", "inner_stride")] == [5, 660, 2640]
    host.shared = needed  # one block a multiprocessor
    cuda._most_shared.cache_clear()
    cuda.plane_spectra(x, (24, 40))
    assert host.launches[-1]["block"] == 1024


def test_planes_that_do_not_fit(host, cuda):
    """They are PyTorch's: a result of another order of frequencies, and the same joints."""
    host.shared = 8 * (24 * 21 + 24 + 40) - 1
    p = random(1, 2, 20, 33)
    expected = _reference.spectral_joint(p, p, 4)[0]
    ways = _fft.spectral_products, cuda.plane_spectra, cuda.plane_pixels
    assert torch.equal(_fft.spectral_joint(p, p, 4, *ways)[0], expected)
    assert host.launches == []


def test_fewer_blocks_than_planes(cuda, monkeypatch):
    x = random(3, 2, 9, 13, dtype=torch.float64)
    expected = cuda.plane_spectra(x, (10, 14))
    whole = cuda.launch
    few = lambda kernel, blocks, *rest, **named: whole(kernel, 2, *rest, **named)  # noqa: E731
    monkeypatch.setattr(cuda, "launch", few)
    hat = cuda.plane_spectra(x, (10, 14))
    assert np.array_equal(hat.numpy(), expected.numpy())
    out = torch.empty_like(x)
    cuda.plane_pixels(hat, (10, 14), out)
    torch.testing.assert_close(out, x)


# --- On a GPU ----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("height", "width", "radius", "size"), [*SIZES, (200, 200, 10, (210, 210))]
)
def test_gpu_spectra_and_back(height, width, radius, size, dtype):
    pytest.importorskip("cupy")
    from fastseg.ops.joint import _cuda

    x = random(2, 3, height, width, dtype=dtype)
    hat = _cuda.plane_spectra(x.cuda(), size, radius)
    out = torch.empty_like(x, device="cuda")
    _cuda.plane_pixels(hat, size, out, radius)
    assert error(out, x) <= allowed(dtype)
    again = _cuda.plane_spectra(x.cuda(), size, radius)
    assert torch.equal(torch.view_as_real(hat), torch.view_as_real(again))
