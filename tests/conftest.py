"""Fixtures and settings for every test."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

# Where there is no GPU, Triton kernels run in Triton's interpreter: it is chosen as Triton is
# imported, which fastseg does.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from fastseg import backends

# Last, so that an instrumented build of fastseg that stands earlier stays the one tested.
sys.path.append(str(Path(__file__).parents[1]))

for profile, examples in (("tests", 20), ("few", 5)):
    hypothesis.settings.register_profile(
        profile, derandomize=True, deadline=None, max_examples=examples
    )
hypothesis.settings.load_profile("tests")


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fresh memory of PyTorch is NaN, or the largest integer."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch's threads would only wait for each other on small tensors."""
    chosen = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(chosen)


# A sanitizer has nothing to find in the reference.
@pytest.fixture(params=os.environ.get("TEST_BACKENDS", "native reference").split())
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend of the CPU."""
    reason = backends.why_not(request.param)
    if reason is not None:
        pytest.skip(reason)
    return request.param


@pytest.fixture
def native():
    """The extension; the instruction set in use is put back."""
    module = pytest.importorskip("fastseg._native", exc_type=ImportError)
    chosen = module.isa()
    yield module
    module.set_isa(chosen)


@pytest.fixture
def threads() -> Iterator[range]:
    """Numbers of threads to try; the one in use is put back."""
    chosen = torch.get_num_threads()
    yield range(1, 4)
    torch.set_num_threads(chosen)
