"""What the launchers of csrc/cuda share. CuPy compiles the sources at first use."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import cupy
import numpy as np
import torch

__all__ = ["launch", "module", "on_stream_of", "source"]


@contextmanager
def on_stream_of(tensor: torch.Tensor) -> Iterator[None]:
    """Launches inside go to PyTorch's current stream on the tensor's device."""
    with (
        torch.cuda.device_of(tensor),
        cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream),
    ):
        yield


def launch(kernel: Any, blocks: int, threads: int, *arguments: Any, shared: int = 0) -> None:
    """`arguments` are tensors, passed by their address, ints as int64, and NumPy's numbers.

    No more blocks are launched than a grid has, so that kernels take several turns.
    """
    plain = (a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments)
    passed = tuple(np.int64(a) if isinstance(a, int) else a for a in plain)
    kernel((min(blocks, 2**31 - 1),), (threads,), passed, shared_mem=shared)


# What is compiled is kept without a limit: a captured CUDA graph needs its kernel.
@cache
def module(name: str, *options: str) -> Any:
    """The kernels of csrc/cuda/`name`.cu."""
    return cupy.RawModule(code=source(name), options=("-std=c++17", *options), backend="nvrtc")


@cache
def source(name: str) -> str:
    """csrc/cuda/`name`.cu with its headers written in: CuPy keeps what it has compiled on disk by
    the source's text alone, where a header of another version of fastseg would not be noticed."""
    folder: Any
    try:
        folder = resources.files("fastseg.csrc")
    except ModuleNotFoundError:  # a checkout that is not installed
        folder = Path(__file__).parents[2] / "csrc"

    def written_in(path: str) -> str:
        text = folder.joinpath(*path.split("/")).read_text("utf-8")
        return re.sub('#include "(.+)"', lambda name: written_in(name[1]), text)

    return written_in(f"cuda/{name}.cu")
