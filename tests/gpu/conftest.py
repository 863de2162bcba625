"""Triton kernels run on a GPU where there is one, else on the CPU in Triton's interpreter."""

import pytest
import torch


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")


@pytest.fixture
def device() -> torch.device:
    """Where this machine runs Triton kernels."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
