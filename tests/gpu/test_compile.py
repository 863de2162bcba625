"""Every GPU kernel compiles for every architecture and keeps its values in registers."""

import csv
import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

from benchmarks import compile as aot
from benchmarks.compile import ARCHS, Usage

SPILLING = """
extern "C" __global__ void lean(float* x) {
  __shared__ float mean[64];
  mean[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = mean[63 - threadIdx.x];
}
extern "C" __global__ void __launch_bounds__(1024, 2) greedy(float* x, int n) {
  float a[80];
  #pragma unroll
  for (int i = 0; i < 80; i++) a[i] = x[i * n];
  __syncthreads();
  #pragma unroll
  for (int i = 0; i < 80; i++) x[i * n + 1] = a[i] * a[i * 37 % 80];
}
extern "C" __global__ void wavering(float* x, int n) {
  float a[32];
  for (int i = 0; i < 32; i++) a[i] = x[i];
  for (int i = 0; i < n; i++) a[i * n % 32] += a[n % 32];
  x[0] = a[n % 32];
}
"""
HAS_NVCC = aot._nvcc_path() is not None


def has_nvrtc():
    try:
        return aot._nvrtc_library().exists()
    except FileNotFoundError:
        return False


nvcc = pytest.param(False, marks=pytest.mark.skipif(not HAS_NVCC, reason="no nvcc"), id="nvcc")
nvrtc = pytest.param(
    True, marks=pytest.mark.skipif(not has_nvrtc(), reason="no NVRTC package"), id="nvrtc"
)


@pytest.fixture(autouse=True)
def _plain_compilers(monkeypatch):
    monkeypatch.delenv("LD_PRELOAD", raising=False)  # a sanitizer for Python, not for compilers


def run(*arguments):
    """Python in the repository as it is to a user: Triton compiles, nothing is instrumented."""
    ours = ("TRITON_INTERPRET", "LD_PRELOAD", "PYTHONPATH", "PYTHONSAFEPATH")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        [sys.executable, *arguments], cwd=aot.ROOT, env=environment, capture_output=True, text=True
    )


def test_every_triton_kernel():
    pytest.importorskip("triton")
    done = run("-m", "benchmarks.compile", "triton")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(
        r"^(\w+)\[(.+)\]\s+sm_(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$", done.stdout, re.M
    )
    assert len(found) == len(done.stdout.splitlines()) - 1
    for _, _, _, registers, _, spills, warps in found:
        assert 0 < int(registers) < 256
        assert int(spills) == 0
        assert int(warps) >= 8
    written = {
        name
        for file in aot.ROOT.glob("fastseg/ops/*/_triton.py")
        for name in re.findall(r"^@triton\.jit\ndef (\w+_kernel)\(", file.read_text("utf-8"), re.M)
    }
    assert "filter_transpose_kernel" in written
    for name in written:
        kinds = {(dtype, int(arch)) for kernel, dtype, arch, *_ in found if kernel == name}
        assert {arch for _, arch in kinds} == set(ARCHS), f"{name} is not in triton_launches()"


def test_a_spilling_triton_kernel_is_found():
    pytest.importorskip("triton")
    done = run(
        "-c",
        "from benchmarks.compile import compile_triton, triton_sources\n"
        "sources = triton_sources()\n"
        "name = next(name for name in sources if name.startswith('filter_transpose_kernel'))\n"
        "source, options = sources[name]\n"
        "print(compile_triton(name, source, {**options, 'maxnreg': 40}, 90))",
    )
    spills = re.search(r"registers=40\b.* spills=(\d+)", done.stdout)
    assert spills, done.stdout + done.stderr
    assert int(spills[1]) > 0


@pytest.mark.skipif(not (HAS_NVCC or has_nvrtc()), reason="no CUDA compiler")
@pytest.mark.parametrize("source", aot.cuda_sources(), ids=lambda source: source.name)
def test_every_cuda_kernel(source):
    # By CuPy's compiler where it is there; `python -m benchmarks.compile` has all architectures.
    usages = aot.compile_cuda(source, 90, has_nvrtc())
    assert usages
    assert not any(usage.spills for usage in usages), aot.table(usages)


@pytest.mark.parametrize("use_nvrtc", [nvcc, nvrtc])
def test_a_spilling_cuda_kernel_is_found(tmp_path, use_nvrtc):
    (tmp_path / "two.cu").write_text(SPILLING)
    usages = {usage.kernel: usage for usage in aot.compile_cuda(tmp_path / "two.cu", 90, use_nvrtc)}
    assert set(usages) == {"lean", "greedy", "wavering"}
    assert usages["lean"].shared == 256
    assert usages["lean"].spills == 0
    assert usages["greedy"].registers == 32
    assert usages["greedy"].spills > 0
    assert usages["wavering"].spills == 128


@pytest.mark.parametrize("use_nvrtc", [nvcc, nvrtc])
def test_what_does_not_compile_says_so(tmp_path, use_nvrtc):
    (tmp_path / "bad.cu").write_text("__global__ void f() { return 1 +; }")
    with pytest.raises(RuntimeError, match=r"bad\.cu does not compile for sm_80:\n.*expression"):
        aot.compile_cuda(tmp_path / "bad.cu", 80, use_nvrtc)


def test_exit_status_tells_spills(tmp_path, monkeypatch, capsys):
    lean, greedy = Usage("lean", 90, 10, 256, 0, 64), Usage("greedy", 90, 32, 0, 1784)
    monkeypatch.setattr(aot, "KINDS", {"cuda": lambda archs: [lean]})
    assert aot.main(["cuda"]) == 0
    monkeypatch.setattr(aot, "KINDS", {"cuda": lambda archs: [lean, greedy]})
    assert aot.main(["--out", str(tmp_path / "usage.csv")]) == 1
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        "greedy", "sm_90", "32", "0", "1784", "-",
    ]  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "usage.csv").read_text().splitlines()))
    found = [(row["kernel"], row["spills"], row["threads"], row["warps"]) for row in rows]
    assert found == [("lean", "0", "64", "64"), ("greedy", "1784", "", "")]
    assert all(row["commit"] and row["date"] for row in rows)


def test_no_cuda_compiler(monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(aot, "cuda_sources", lambda: [aot.CSRC / "cuda" / "any.cu"])
    assert aot.main(["cuda"]) == 2
    assert "pip install nvidia-cuda-nvrtc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "arch", "warps"),
    [
        (32, 0, 128, 90, 64),  # all there is
        (33, 0, 256, 90, 48),  # 33 registers take 40: 51 warps, in fours 48
        (64, 0, 1024, 90, 32),
        (65, 0, 1024, 90, 0),  # does not launch
        (255, 0, 32, 80, 8),
        (16, 0, 32, 100, 32),  # 32 blocks at most
        (32, 100 * 1024, 128, 90, 8),  # 228 KiB hold two blocks of 101
        (32, 100 * 1024, 128, 80, 4),  # 164 KiB hold one
    ],
)
def test_warps_on_a_multiprocessor(registers, shared, threads, arch, warps):
    assert Usage("", arch, registers, shared, 0, threads).warps() == warps
