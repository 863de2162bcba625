"""What can run here, and why the rest cannot. `python -m fastseg.backends` prints it.

Every operator has a reference in plain PyTorch and, where it pays, kernels:

    native      C++ on the CPU (the extension `fastseg._native`)
    torch       PyTorch's own kernels (oneDNN, cuDNN), put to a use that the reference does not
    triton      GPU kernels written in Triton
    cuda        GPU kernels written in CUDA C++ (`csrc/cuda`), compiled at first use by CuPy

`backend="auto"` takes the first of `ORDER[device]` that implements the operator and can run
here. A backend asked for by name never falls back: it raises `BackendUnavailable`.
"""

import importlib
import importlib.util
from functools import cache
from types import ModuleType

import torch

from ..checks import check_choice

__all__ = ["IMPLEMENTED", "NAMES", "BackendUnavailable", "load", "report", "resolve", "why_not"]

NAMES = ("reference", "native", "torch", "triton", "cuda")
ORDER = {"cpu": ("native", "torch"), "cuda": ("torch", "cuda", "triton")}
# What runs on one device only.
DEVICE = {"native": "cpu", "triton": "cuda", "cuda": "cuda"}

# operator → (family, backends with a kernel for it); the reference implements every one.
IMPLEMENTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "box_sum": ("joint", ("native", "triton")),
    "confusion": ("confusion", ("native", "triton")),
    "displaced_joint": ("joint", ("native", "triton")),
    "gaussian_filter": ("inpaint", ("native", "triton")),
    "iic_terms": ("joint", ("triton",)),
    "iem": ("inpaint", ("native", "cuda")),
    "joint_sum": ("joint", ("native", "cuda", "triton")),
    "masked_conv2d": ("masked_conv", ("native", "torch", "triton")),
    "ncut_sums": ("ncut", ("native", "cuda", "triton")),
    "ordered_attention": ("attention", ("native", "torch")),
    "pair_terms": ("scoring", ("triton",)),
    "plane_spectra": ("joint", ("cuda",)),
    "region_index": ("region", ("native", "cuda")),
    "region_max": ("region", ("native", "cuda")),
    "region_resize": ("region", ("native", "cuda")),
    "region_scatter": ("region", ("native", "cuda")),
    "region_spp": ("region", ("native", "cuda")),
    "region_spread": ("region", ("native", "cuda")),
    "region_sum": ("region", ("native", "cuda")),
    "region_unpool": ("region", ("native", "cuda")),
    "reorder": ("attention", ("triton",)),
    "slic": ("slic", ("native", "cuda")),
}


class BackendUnavailable(RuntimeError):
    """The named backend cannot run this operator here; the message says why."""


@cache
def why_not(backend: str) -> str | None:
    """The reason why `backend` cannot run on this machine, or None if it can."""
    if backend == "native":
        try:
            importlib.import_module("fastseg._native")
        except ImportError as error:
            return f"the extension fastseg._native is not built ({error})"
    if DEVICE.get(backend) == "cuda":
        package = {"triton": "triton", "cuda": "cupy"}[backend]
        try:
            importlib.import_module(package)
        except ImportError:
            return f"{package} is not installed"
        if not torch.cuda.is_available():
            return "PyTorch sees no CUDA device"
    return None


def resolve(operator: str, device: torch.device, backend: str = "auto") -> str:
    """The backend that runs `operator` on `device`.

    Raises:
        ValueError: `backend` is not a backend's name.
        BackendUnavailable: the named backend lacks the operator, the device, or what it needs here.
    """
    check_choice("backend", backend, ("auto", *NAMES))
    kernels = IMPLEMENTED[operator][1]
    if backend == "auto":
        order = ORDER.get(device.type, ())
        usable = (b for b in order if b in kernels and why_not(b) is None)
        return next(usable, "reference")
    if backend != "reference":
        reason = why_not(backend)
        if backend not in kernels:
            reason = f"it has no kernel for {operator}, which has {', '.join(kernels)}"
        elif DEVICE.get(backend, device.type) != device.type and reason is None:
            reason = f"it runs on {DEVICE[backend]} tensors, got {device.type}"
        if reason is not None:
            raise BackendUnavailable(f"backend {backend!r} cannot run {operator}: {reason}")
    return backend


def load(operator: str, device: torch.device, backend: str) -> ModuleType:
    """The module, such as `fastseg.ops.inpaint._native`, that `resolve` points to."""
    family = IMPLEMENTED[operator][0]
    name = resolve(operator, device, backend)
    return importlib.import_module(f"fastseg.ops.{family}._{name}")


def report() -> str:
    """One line a backend, then one line an operator with what `auto` takes on each device."""
    lines = ["backend    state"]
    lines += [f"{name:<11}{why_not(name) or 'ready'}" for name in NAMES]
    lines += ["", f"{'operator':<20}{'cpu':<12}cuda"]
    for operator in IMPLEMENTED:
        chosen = [resolve(operator, torch.device(d)) for d in ("cpu", "cuda")]
        lines.append(f"{operator:<20}{chosen[0]:<12}{chosen[1]}")
    return "\n".join(lines)
