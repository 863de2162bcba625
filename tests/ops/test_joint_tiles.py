"""How displaced_joint transforms: its plan, tiles and parts."""

import importlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import displaced_joint, joint_plan
from fastseg.ops.joint import _fft, plan
from tests.ops.joint_fields import by_definition, error, fields, random, tolerance

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")


def test_large_inputs_are_worked_on_in_parts(monkeypatch, backend):
    p, q = (x.requires_grad_() for x in fields((5, 5, 3, 9, 8), torch.float64))

    def both():
        joint = displaced_joint(p, q, 2, algorithm="fft", backend=backend)
        return joint, *torch.autograd.grad(joint.square().sum(), (p, q))

    expected = both()
    monkeypatch.setitem(_fft.MOST_VALUES, "cpu", 3 * 12 * 10 * 2)  # two of K at a time
    if backend == "native":
        tiles = importlib.import_module("fastseg.ops.joint._tiles")
        cut = plan.tiling(p.shape, 3, 2)
        # Two images at a time, and the last alone.
        monkeypatch.setattr(tiles, "MOST_VALUES", 2 * 5 * cut.tiles * cut.frequencies * 2)
        monkeypatch.setattr(tiles, "MOST_JOINT_VALUES", 2 * 3 * cut.frequencies * 2)  # two of K
    for one, other in zip(both(), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("size", "radius", "parts"),
    [
        ((31, 40), 2, (1, 3)),
        ((31, 40), 2, (4, 1)),
        ((37, 29), 3, (3, 2)),  # the last tiles are smaller
        ((23, 26), 7, (6, 5)),  # displacements reach over a whole tile
        ((1, 90), 0, (1, 2)),
        ((49, 14), 0, (1, 1)),  # a transform of 7·7
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiles(size, radius, parts, dtype, native, monkeypatch):
    """Each way to cut the planes gives what the definition does, on every instruction set."""
    launcher = importlib.import_module("fastseg.ops.joint._native")
    rows, columns = (
        plan.axis(n, count, radius, fast=i == 0)
        for i, (n, count) in enumerate(zip(size, parts, strict=True))
    )
    monkeypatch.setattr(launcher, "tiling", lambda *_: plan.Tiling(rows, columns, radius))
    p, q = (x.requires_grad_() for x in fields((2, 4, 5, *size), dtype))
    expected = by_definition(p, q, radius)
    weights = random(*expected.shape, seed=2, dtype=dtype)
    gradients = torch.autograd.grad(expected, (p, q), weights.double())
    for name in native.isas():
        native.set_isa(name)
        joint = displaced_joint(p, q, radius, algorithm="fft", backend="native")
        assert error(joint, expected) <= tolerance(dtype)
        found = torch.autograd.grad(joint, (p, q), weights)
        for one, other in zip(found, gradients, strict=True):
            assert error(one, other.double()) <= tolerance(dtype)


def test_large_planes_are_cut_into_tiles():
    p, q = (x.requires_grad_() for x in fields((2, 6, 5, 150, 130)))
    cut = plan.tiling(p.shape, 5, 2)
    assert cut == plan.tiling(q.shape, 6, 2)
    assert cut.tiles > 1
    joint = displaced_joint(p, q, 2, algorithm="fft")
    expected = by_definition(p, q, 2)
    assert error(joint, expected) <= 1e-5
    weights = random(*joint.shape, seed=2)
    found = torch.autograd.grad(joint, (p, q), weights)
    exact = torch.autograd.grad(expected, (p, q), weights.double())
    for one, other in zip(found, exact, strict=True):
        assert error(one, other.double()) <= 1e-5


@given(
    pixels=st.integers(1, 300),
    parts=st.integers(1, 8),
    radius=st.integers(0, 20),
    fast=st.booleans(),
)
def test_tiles_cover_an_axis(pixels, parts, radius, fast):
    axis = plan.axis(pixels, parts, radius, fast)
    assert (axis.count - 1) * axis.step < pixels <= axis.count * axis.step
    assert axis.count <= parts
    # No displacement of a tile against what is around it wraps onto another.
    assert axis.size >= (pixels + radius if axis.count == 1 else axis.step + 2 * radius)
    assert axis.size % 2 == 0


def test_the_kernels_refuse_what_does_not_fit(native):
    cut = {"rows": (1, 4, 6), "columns": (2, 3, 6), "radius": 1}
    there = {
        "src": torch.zeros(1, 2, 4, 5).numpy(),
        "dst": torch.zeros(6, 2, 2, 2, 16).numpy(),
        "around": True,
        "roots": torch.zeros(2, 6).numpy(),
        "table": torch.zeros(6, 32).numpy(),
        "threads": 1,
        **cut,
    }
    back = {k: v for k, v in there.items() if k != "around"} | {
        "src": there["dst"],
        "dst": there["src"],
        "table": torch.zeros(32, 16).numpy(),
    }
    native.tile_spectra(**there)
    native.tile_pixels(**back)
    for change, message in (
        ({"rows": (1, 3, 6)}, "`rows` must cover"),
        ({"rows": (1, 4, 4)}, "`rows` must cover"),
        ({"columns": (2, 3, 4)}, "`columns` must cover"),
        ({"columns": (3, 3, 6)}, "`columns` must cover"),
        ({"rows": (1, 4, 11), "roots": torch.zeros(2, 11).numpy()}, "prime factors above 7"),
        ({"roots": torch.zeros(2, 5).numpy()}, "`roots` must"),
        ({"table": torch.zeros(5, 16).numpy()}, "`table` must"),
    ):
        for kernel, good in ((native.tile_spectra, there), (native.tile_pixels, back)):
            with pytest.raises(ValueError, match=message):
                kernel(**good | change)
    with pytest.raises(ValueError, match="spectra must have shape"):
        native.tile_spectra(**there | {"dst": torch.zeros(6, 2, 1, 2, 16).numpy()})
    p, q, joint = (torch.zeros(6, k, r, 2, 16).numpy() for k, r in ((2, 5), (3, 5), (2, 3)))
    native.join_spectra(p, q, joint, add=False, threads=1)
    native.mix_spectra(joint, q, p, threads=1)
    with pytest.raises(ValueError, match="`joint` must have shape"):
        native.join_spectra(p, q, p, add=False, threads=1)
    with pytest.raises(ValueError, match="`q` must have the blocks"):
        native.join_spectra(p, joint, p, add=False, threads=1)
    with pytest.raises(ValueError, match="`out` must have shape"):
        native.mix_spectra(joint, q, joint, threads=1)
    with pytest.raises(ValueError, match="`weights` must have shape"):
        native.mix_spectra(p, q, p, threads=1)
    odd = torch.zeros(6, 2, 5, 2, 8).numpy()
    with pytest.raises(ValueError, match="must be in blocks"):
        native.join_spectra(odd, odd, torch.zeros(6, 2, 2, 2, 8).numpy(), add=False, threads=1)


@pytest.mark.parametrize(
    ("least", "size"), [(1, 2), (2, 2), (11, 12), (13, 14), (138, 140), (205, 210), (211, 216)]
)
def test_sizes_that_transform_fast(least, size):
    assert plan.fast_size(least) == size


def test_the_plan_can_be_inspected():
    small, large = torch.empty(4, 3, 64, 64), torch.empty(16, 15, 128, 128)
    assert joint_plan(small, small, 0).algorithm == "direct"
    plan = joint_plan(large, large, 10)
    assert plan.algorithm == "fft"
    assert plan.cost["fft"] < plan.cost["direct"]
    few = displaced_joint(large[:1, :2].fill_(1), large[:1, :2], 1)
    assert few[1, 1, 0, 0] == 128 * 128
