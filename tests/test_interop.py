"""Arrays of any kind go in, and the same kind comes out."""

import numpy as np
import pytest
import torch

from fastseg import iem
from fastseg.interop import as_tensor

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3, 12, 17), dtype=np.uint8)
PARTS = ("masks", "error", "steps", "status")


class Exporter:
    """Speaks DLPack, and nothing else."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


class Array(Exporter):
    """Has a namespace, as the Python array API standard says."""

    def __array_namespace__(self):
        return Namespace


class Namespace:
    @staticmethod
    def from_dlpack(array) -> Array:
        return Array(torch.from_dlpack(array))


@pytest.fixture
def expected():
    return iem(torch.from_numpy(IMAGES), iterations=4)


def test_numpy_gives_numpy(expected):
    result = iem(IMAGES, iterations=4)
    for name in PARTS:
        part = getattr(result, name)
        assert isinstance(part, np.ndarray)
        np.testing.assert_array_equal(part, getattr(expected, name).numpy())
    assert result.masks.dtype == np.bool_
    assert (result.error.dtype, result.steps.dtype) == (np.float32, np.int32)


def test_any_numpy_array(expected):
    locked = IMAGES.copy()
    locked.setflags(write=False)
    reversed_ = IMAGES[..., ::-1].copy()[..., ::-1]
    assert min(reversed_.strides) < 0
    last = np.moveaxis(np.moveaxis(IMAGES, 1, -1).copy(), -1, 1)
    for images in (locked, reversed_, last):
        np.testing.assert_array_equal(iem(images, iterations=4).masks, expected.masks.numpy())
    for dtype in (">f4", "<f4", ">f8", "f2"):
        images = (IMAGES // 4 / 64).astype(dtype)
        want = iem(torch.from_numpy(images.astype("f4")), iterations=4).masks
        np.testing.assert_array_equal(iem(images, iterations=4).masks, want.numpy())


def test_initial_masks_of_any_kind():
    start = IMAGES[:, :1] > 100
    want = iem(torch.from_numpy(IMAGES), torch.from_numpy(start), 3).masks
    for init in (start, start[..., ::-1].copy()[..., ::-1], Exporter(torch.from_numpy(start))):
        np.testing.assert_array_equal(iem(IMAGES, init, 3).masks, want.numpy())


def test_input_is_left_as_it_is():
    images, init = IMAGES.copy(), IMAGES[:, :1] > 100
    before = init.copy()
    iem(images, init, 3)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(init, before)


def test_dlpack_without_a_namespace_gives_tensors(expected):
    result = iem(Exporter(torch.from_numpy(IMAGES)), iterations=4)
    for name in PARTS:
        assert torch.equal(getattr(result, name), getattr(expected, name))


def test_dlpack_with_a_namespace_gives_its_arrays(expected):
    result = iem(Array(torch.from_numpy(IMAGES)), iterations=4)
    for name in PARTS:
        part = getattr(result, name)
        assert isinstance(part, Array)
        assert torch.equal(part.tensor, getattr(expected, name))


def test_memory_is_shared_where_it_can():
    tensor = torch.zeros(3)
    assert as_tensor("a", tensor)[0] is tensor
    array = np.zeros(3)
    assert as_tensor("a", array)[0].data_ptr() == array.ctypes.data
    assert as_tensor("a", Exporter(tensor))[0].data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "`images` must be a torch.Tensor, a NumPy array or a DLPack array, got list"),
        (None, "`images` must be a torch.Tensor, a NumPy array or a DLPack array, got NoneType"),
        (np.array(["a"]), "`images` has a dtype that PyTorch lacks: <U1"),
        (np.zeros(2, object), "`images` has a dtype that PyTorch lacks: object"),
        (np.zeros(2, np.longdouble), "`images` has a dtype that PyTorch lacks: float"),
    ],
)
def test_refusals(value, message):
    with pytest.raises(TypeError) as raised:
        iem(value)
    assert str(raised.value).startswith(message)
