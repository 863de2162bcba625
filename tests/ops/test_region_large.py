"""Region operators on tensors of more than 2³¹ values, and how much memory they take."""

import mmap
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch

from benchmarks.memory import peak_of
from fastseg import backends, region_index, region_pool, region_resize, region_spp
from tests.ops.region_maps import blobs

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux' memory maps"),
    pytest.mark.skipif(backends.why_not("native") is not None, reason="needs the extension"),
]

CHANNELS, HEIGHT, WIDTH = 1025, 2048, 1024  # 2³¹ + 2²¹ values


@pytest.fixture
def zeros():
    """So many values that are zero; only those that are written take memory."""
    size = 4 * CHANNELS * HEIGHT * WIDTH
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    memory = mmap.mmap(-1, size, flags=flags)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32)


@pytest.mark.parametrize("channels_last", [False, True])
def test_offsets_go_beyond_an_int32(channels_last, zeros):
    if channels_last:
        x = zeros.view(1, HEIGHT, WIDTH, CHANNELS).permute(0, 3, 1, 2)
    else:
        x = zeros.view(1, CHANNELS, HEIGHT, WIDTH)
    corner = torch.tensor([[1.0, 2], [3, 4]])
    x[0, -1, -2:, -2:] = corner
    labels = torch.full((1, HEIGHT, WIDTH), -1, dtype=torch.int32)
    labels[0, -2:, -2:] = 1
    index = region_index(labels, 2)
    results = {
        "sum": region_pool(x, index, reduce="sum", backend="native"),
        "max": region_pool(x, index, reduce="max", backend="native"),
        "spp": region_spp(x, index, levels=(1,), backend="native"),
        "resize": region_resize(x, index, size=(1, 1), backend="native").flatten(2),
    }
    for name, value in {"sum": 10.0, "max": 4.0, "spp": 4.0, "resize": 2.5}.items():
        assert results[name][0, 1, -1] == value, name
        assert results[name].sum() == value, name


SHAPE, REGIONS = (4, 64, 128, 128), 100


def prepare(operator: Callable) -> Callable:
    torch.set_num_threads(1)
    x, labels = torch.rand(SHAPE), blobs(SHAPE[0], *SHAPE[2:], REGIONS)
    operator(x[:1], labels[:1], REGIONS)
    return partial(operator, x, region_index(labels, REGIONS))


@pytest.mark.parametrize(
    ("operator", "values"),
    [(partial(region_pool, reduce="max"), 2), (region_spp, 21), (region_resize, 64)],
)
def test_no_memory_but_the_result_s(operator, values):
    """And a thread's own, which does not grow with the batch."""
    result = 4 * SHAPE[0] * REGIONS * SHAPE[1] * values
    assert peak_of(partial(prepare, operator)) <= result + 3 * 2**20
