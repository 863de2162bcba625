"""`fastseg doctor`."""

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from .. import __version__, backends
from ..predict.workers import cpu_count
from .common import OK

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    add = commands.add_parser("doctor", help="say what can run here, and why the rest cannot")
    add.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    print(f"fastseg {__version__}")
    print(f"Python {platform.python_version()}, {platform.platform()}, {cpu_count()} CPUs")
    print(f"PyTorch {torch.__version__}, {cuda}\n")
    missing = backends.why_not("native")
    if missing is None:
        from .. import _native

        print(f"The extension is built and runs {_native.isa()} code here.\n")
    else:
        print(f"The extension is MISSING: {missing}.")
        print("Everything on the CPU runs on the reference, some hundred times slower. To have it,")
        print("install a C++ compiler, then fastseg again.\n")
    print(backends.report() + "\n")
    for package in ("triton", "cupy-cuda12x", "cupy-cuda13x", "numba", "scikit-image"):
        try:
            print(f"{package:<20}{version(package)}")
        except PackageNotFoundError:
            print(f"{package:<20}not installed")
    return OK
