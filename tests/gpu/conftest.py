"""Triton kernels run on a GPU where there is one, else on the CPU in Triton's interpreter."""

import os
import sys
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    # Triton reads it as it is imported.
    if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
        raise pytest.UsageError("triton is imported already, so its interpreter cannot be chosen")
    os.environ["TRITON_INTERPRET"] = "1"

# Last, so that an instrumented build of fastseg that stands earlier stays the one tested.
sys.path.append(str(Path(__file__).parents[2]))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")


@pytest.fixture
def device() -> torch.device:
    """Where this machine runs Triton kernels."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
