"""Which backend runs, and why another cannot."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import fastseg
from fastseg import backends
from fastseg.backends import BackendUnavailable

CPU = torch.device("cpu")
X = torch.zeros(1, 1, 8, 9)


def python(*arguments: str) -> str:
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("operator", backends.IMPLEMENTED)
def test_auto_takes_the_first_that_runs_here(operator, native):
    # What PyTorch does as fast on a CPU has a kernel for GPUs alone.
    alone = "iic_terms", "pair_terms", "plane_spectra", "reorder"
    here = "reference" if operator in alone else "native"
    assert backends.resolve(operator, CPU) == here
    assert backends.resolve(operator, CPU, here) == here
    assert backends.resolve(operator, CPU, "reference") == "reference"
    # No kernel is for this device.
    assert backends.resolve(operator, torch.device("meta")) == "reference"


def test_pytorch_runs_anywhere_and_comes_before_what_is_not_measured():
    for device in (CPU, torch.device("cuda"), torch.device("meta")):
        assert backends.resolve("masked_conv2d", device, "torch") == "torch"
    assert backends.resolve("masked_conv2d", torch.device("cuda")) == "torch"


def test_load_gives_the_module(native):
    for name in ("native", "reference"):
        module = backends.load("iem", CPU, name)
        assert module.__name__ == f"fastseg.ops.inpaint._{name}"
        assert callable(module.iem)


def test_every_kernel_has_its_module():
    from importlib.util import find_spec

    for operator, (family, kernels) in backends.IMPLEMENTED.items():
        for name in ("reference", *kernels):
            assert find_spec(f"fastseg.ops.{family}._{name}"), (operator, name)
            assert name in backends.NAMES


def test_a_named_backend_never_falls_back():
    with pytest.raises(ValueError, match=r"`backend` must be one of 'auto', .*, got 'numba'"):
        backends.resolve("iem", CPU, "numba")
    with pytest.raises(BackendUnavailable, match="'triton' cannot run iem: it has no kernel for"):
        backends.resolve("iem", CPU, "triton")
    with pytest.raises(BackendUnavailable, match=r"native.*: it runs on cpu tensors, got meta"):
        backends.resolve("iem", torch.device("meta"), "native")
    with pytest.raises(BackendUnavailable, match="'triton' cannot run gaussian_filter: "):
        fastseg.gaussian_filter(X, backend="triton")
    with pytest.raises(BackendUnavailable, match="'cuda' cannot run iem: "):
        fastseg.iem(X, backend="cuda")


def test_named_backends_are_refused_for_empty_input_too():
    with pytest.raises(BackendUnavailable, match="'cuda' cannot run iem"):
        fastseg.iem(X[:0], backend="cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_why_not_without_a_gpu():
    assert backends.why_not("reference") is None
    for name in ("triton", "cuda"):
        reason = backends.why_not(name)
        assert reason is not None
        assert reason.endswith(("is not installed", "PyTorch sees no CUDA device"))


def test_report_names_every_backend_and_operator(native):
    lines = [line.split() for line in backends.report().splitlines() if line]
    assert lines[0] == ["backend", "state"]
    assert ["reference", "ready"] in lines
    assert ["native", "ready"] in lines
    assert [line[0] for line in lines[1:6]] == list(backends.NAMES)
    table = {line[0]: line[1:] for line in lines[7:]}
    for operator in backends.IMPLEMENTED:
        expected = [backends.resolve(operator, torch.device(d)) for d in ("cpu", "cuda")]
        assert table[operator] == expected


def test_the_module_prints_the_report():
    out = python("-m", "fastseg.backends")
    assert out.startswith("backend")
    for name in (*backends.NAMES, *backends.IMPLEMENTED):
        assert name in out


def test_auto_runs_on_the_reference_where_the_extension_is_missing():
    out = python(
        "-c",
        """
import sys
sys.modules["fastseg._native"] = None
import torch, fastseg
from fastseg import backends
images = torch.arange(2 * 3 * 9 * 8, dtype=torch.uint8).view(2, 3, 9, 8)
auto, named = (fastseg.iem(images, iterations=3, backend=b) for b in ("auto", "reference"))
assert torch.equal(auto.masks, named.masks) and torch.equal(auto.error, named.error)
assert backends.resolve("gaussian_filter", torch.device("cpu")) == "reference"
try:
    fastseg.gaussian_filter(images.float(), backend="native")
except backends.BackendUnavailable as error:
    print(error)
print(backends.report())
""",
    )
    reason = "the extension fastseg._native is not built"
    assert out.startswith(f"backend 'native' cannot run gaussian_filter: {reason}")
    assert f"native     {reason}" in out


def test_importing_fastseg_loads_no_compiler():
    code = "import fastseg, sys; print({'torch._dynamo', 'triton', 'cupy'} & set(sys.modules))"
    assert python("-c", code) == "set()\n"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_threads_after_a_fork(native):
    """PyTorch's threads, which kernels run on, stay behind."""
    x = torch.rand(8, 64, 64).numpy()

    def compute() -> bytes:
        out = np.empty_like(x)
        native.box_sum(x, out, radius=1, threads=2)
        return out.tobytes()

    expected = compute()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if compute() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
