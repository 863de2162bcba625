"""region_pool and region_unpool as operators, and what they refuse."""

import shutil
import warnings

import numpy as np
import pytest
import torch

from fastseg import region_index, region_pool, region_unpool
from tests.ops.region_maps import patches, random

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

REDUCTIONS = ["mean", "max", "sum"]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
X = torch.tensor([[1.0, 2, 5, 5], [-4, 7, 5, -1]]).view(1, 1, 2, 4)
LABELS = torch.tensor([[[0, 0, 2, 2], [0, -1, 2, 3]]])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_pool_has_gradients_of_any_order(reduce, layout, backend):
    x = random(1, 2, 4, 5, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    index = region_index(patches(1, 4, 5, 4), 4)
    torch.autograd.gradcheck(lambda x: region_pool(x, index, 4, reduce, backend), x)
    square = lambda x: region_pool(x.square(), index, 4, reduce, backend)  # noqa: E731
    torch.autograd.gradgradcheck(square, x)


def test_unpool_has_gradients_of_any_order(backend):
    z = random(2, 4, 3, dtype=torch.float64).requires_grad_()
    index = region_index(patches(2, 3, 5, 4), 4)
    torch.autograd.gradcheck(lambda z: region_unpool(z, index, backend), z)
    torch.autograd.gradgradcheck(lambda z: region_unpool(z.square(), index, backend), z)


def check_operator(operator, *inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
        torch.library.opcheck(operator, inputs)


@pytest.mark.parametrize("wants_gradient", [False, True])
def test_they_are_sound_operators(wants_gradient, backend):
    labels = patches(1, 7, 5, 4)
    index = region_index(labels, 4, backend).tensors
    x, z = random(1, 2, 7, 5), random(1, 4, 2)
    transposed = random(1, 2, 5, 7).mT
    ops = torch.ops.fastseg
    for view in (x, transposed, x.to(memory_format=torch.channels_last)):
        view = view.detach().requires_grad_(wants_gradient)
        for dtype in (torch.float32, torch.float64):
            check_operator(ops.region_sum.default, view, *index, dtype, backend)
        check_operator(ops.region_max.default, view, *index, backend)
    at = ops.region_max(x, *index, backend)[1]
    for view in (z, z.mT.contiguous().mT):
        view = view.detach().requires_grad_(wants_gradient)
        for channels_last in (False, True):
            last = channels_last, torch.float32, backend
            check_operator(ops.region_unpool.default, view, *index, *last)
            for given in (labels.int(), None):
                rest = at, given, 7, 5, channels_last, backend
                check_operator(ops.region_scatter.default, view, *rest)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_they_compile_whole(reduce, backend):
    inductor = backend == "native" and reduce == "mean" and shutil.which("g++")
    labels = patches(2, 6, 7, 5)
    index = region_index(labels, 5, backend)

    def loss(x, labels):
        pooled = region_pool(x, labels, 5, reduce, backend)
        return region_unpool(pooled, index, backend).square().mean()

    eager, compiled = (random(2, 3, 6, 7).requires_grad_() for _ in range(2))
    loss(eager, labels).backward()
    torch.compile(loss, fullgraph=True, backend="inductor" if inductor else "aot_eager")(
        compiled, labels
    ).backward()
    assert torch.allclose(compiled.grad, eager.grad, rtol=1e-5, atol=1e-8)


def test_autocast_and_inference_mode_change_nothing(backend):
    x, labels = random(1, 2, 6, 7), patches(1, 6, 7, 3)
    for reduce in REDUCTIONS:
        expected = region_pool(x, labels, 3, reduce, backend)
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            assert torch.equal(region_pool(x, labels, 3, reduce, backend), expected)
            unpooled = region_unpool(expected, labels, backend)
        assert torch.equal(region_unpool(expected, labels, backend), unpooled)


# --- Bad input ---------------------------------------------------------------------------------

INDEX = region_index(LABELS, 5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((1, 1, 2, 4))}, TypeError, "`x` must be a torch.Tensor, got ndarray"),
        ({"x": X[0]}, ValueError, r"`x` must have 4 dimensions \(B, C, H, W\), got .*\(1, 2, 4\)"),
        ({"x": X.int()}, TypeError, "`x` must be float32 or float64 or .*, got int32"),
        ({"labels": None}, TypeError, "`labels` must be a torch.Tensor, got NoneType"),
        ({"labels": LABELS.float()}, TypeError, "`labels` must be int32 or int64, got float32"),
        (
            {"labels": LABELS.mT},
            ValueError,
            r"`labels` must have shape \(1, 2, 4\), got \(1, 4, 2\)",
        ),
        (
            {"labels": LABELS.to("meta")},
            ValueError,
            r"`labels` must be on the device of `x` \(cpu\), got meta",
        ),
        (
            {"labels": region_index(LABELS[..., :3], 5)},
            ValueError,
            r"`labels.labels` must have shape \(1, 2, 4\), got \(1, 2, 3\)",
        ),
        (
            {"labels": INDEX, "num_regions": 4},
            ValueError,
            r"`num_regions` must be that of the index \(5\), got 4",
        ),
        ({"num_regions": None}, TypeError, "`num_regions` must be an integer, got NoneType"),
        ({"num_regions": 0}, ValueError, "`num_regions` must be an integer of at least 1, got 0"),
        (
            {"num_regions": 3},
            ValueError,
            r"`labels` must be less than `num_regions` \(3\), got 3 at index \(0, 1, 3\)",
        ),
        ({"reduce": "min"}, ValueError, "`reduce` must be one of 'mean', 'max', 'sum', got 'min'"),
        ({"backend": "gpu"}, ValueError, "`backend` must be one of 'auto', .* got 'gpu'"),
    ],
)
def test_what_pool_refuses(change, error, message):
    with pytest.raises(error, match=message):
        region_pool(**{"x": X, "labels": LABELS, "num_regions": 5, **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"z": 1}, TypeError, "`z` must be a torch.Tensor, got int"),
        ({"z": X}, ValueError, r"`z` must have 3 dimensions \(B, R, C\), got .*\(1, 1, 2, 4\)"),
        ({"z": X[0].bool()}, TypeError, "`z` must be float32 or .*, got bool"),
        ({"z": X[0, :, :0]}, ValueError, "`z` must have at least one region, got shape"),
        ({"labels": LABELS[0]}, ValueError, r"`labels` must have shape \(1, any, any\), got .2, 4"),
        ({"labels": LABELS.to("meta")}, ValueError, r"on the device of `z` \(cpu\), got meta"),
        ({"labels": INDEX}, ValueError, r"`z` must have the regions of the index \(5\), got 4"),
        (
            {"labels": LABELS + 1},
            ValueError,
            r"less than `num_regions` \(4\), got 4 at index .0, 1",
        ),
        ({"backend": "gpu"}, ValueError, "`backend` must be one of 'auto', .* got 'gpu'"),
    ],
)
def test_what_unpool_refuses(change, error, message):
    with pytest.raises(error, match=message):
        region_unpool(**{"z": torch.zeros(1, 4, 2), "labels": LABELS, **change})
