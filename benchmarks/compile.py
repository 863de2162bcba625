"""What the GPU kernels compile to, on a machine with no GPU: `python -m benchmarks.compile`.

Prints, of every kernel at every architecture, the registers a thread, the shared memory a block,
the bytes spilled to local memory, and how many warps fit on a multiprocessor.

Exit status: 0 nothing spills, 1 something does or does not compile, 2 there is no CUDA compiler.
"""

import argparse
import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from . import machine
from .machine import ROOT
from .report import write_csv

ARCHS = (80, 90, 100)
CSRC = ROOT / "csrc"


@dataclass(frozen=True)
class Usage:
    """What one kernel takes."""

    kernel: str
    arch: int
    registers: int  #: a thread
    shared: int  #: bytes a block, of static size
    spills: int  #: bytes a thread writes to and reads from local memory
    threads: int | None = None  #: a block, where the compiler knows

    def warps(self) -> int | None:
        """How many warps fit on a multiprocessor at a time, of 64."""
        if self.threads is None:
            return None
        # Registers are given out in units of 256 a warp, warps in fours, shared memory in units of
        # 128 bytes, 1024 of which the driver keeps in each block.
        per_block = -(-self.threads // 32)
        by_registers = 65536 // (-(-self.registers * 32 // 256) * 256) // 4 * 4 // per_block
        memory = (164 if self.arch < 90 else 228) * 1024
        by_shared = memory // (-(-(self.shared + 1024) // 128) * 128)
        return per_block * min(32, 64 // per_block, by_registers, by_shared)


# --- Triton ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Launch:
    """`kernel[blocks](**arguments, **options)`, not run."""

    kernel: Any
    blocks: tuple[int, ...]
    arguments: dict[str, Any]
    options: dict[str, Any]


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Triton kernels launched inside are not run but listed."""
    from triton.runtime.jit import KernelInterface

    launches: list[Launch] = []

    def record(kernel, blocks):
        def launch(*values, **named):
            arguments = dict(zip(kernel.arg_names, values, strict=False))
            arguments |= {name: named.pop(name) for name in kernel.arg_names if name in named}
            launches.append(Launch(kernel, blocks, arguments, named))

        return launch

    with mock.patch.object(KernelInterface, "__getitem__", record):
        yield launches


def triton_launches() -> list[Launch]:
    """What every family's launchers launch: a line each, at shapes that select every variant."""
    from fastseg.ops.attention import _triton as attention
    from fastseg.ops.confusion import _triton as confusion
    from fastseg.ops.inpaint import _triton as inpaint
    from fastseg.ops.joint import _triton as joint
    from fastseg.ops.masked_conv import _triton as masked_conv
    from fastseg.ops.ncut import _triton as ncut
    from fastseg.ops.scoring import _triton as scoring

    with recorded() as launches:
        for dtype, d in product((torch.float32, torch.float64, torch.bfloat16), (128, 40)):
            x = torch.empty((2, 3, 1600, d), dtype=dtype, device="meta")
            attention.reorder(x, x[0, 0, :, 0].long())
        for dtype, count in product((torch.uint8, torch.int32, torch.int64), (6, 27, 60)):
            labels = torch.empty((2, 128, 128), dtype=dtype, device="meta")
            confusion.confusion(labels, labels, count, count, -1)
        for dtype, classes in product((torch.float32, torch.float64), (15, 45)):
            fields = torch.empty((2, classes, 128, 128), dtype=dtype, device="meta")
            joint.displaced_joint(fields, fields, 1)
            joints = fields.new_empty((9, classes, classes), dtype=torch.float64)
            for symmetric in (False, True):
                terms = joint.iic_terms(joints, 1.0, symmetric)
                joint.iic_terms_back(terms, joints, 1.0, symmetric)
            scores = fields.new_empty((2, 2 * classes, 1024))
            for hard in (False, True):
                partner = scores[:, 0, 0].long()
                terms = scoring.pair_terms(scores, partner, 1.0, hard)
                scoring.pair_terms_back(terms, scores, partner, 1.0, hard)
            spectra = torch.view_as_complex(fields.new_empty((classes, 2, 16, 9, 2)))
            joint.spectral_products(spectra, spectra)
        for dtype, size in product((torch.float32, torch.float64), ((128, 128), (37, 45), (9, 9))):
            planes = torch.empty((2, 3, *size), dtype=dtype, device="meta")
            inpaint.gaussian_filter(planes, 5.0, 11, 2)
            for classes in (3, 20):
                p = torch.empty((2, classes, *size), dtype=dtype, device="meta")
                inner, outer, *kept = ncut.ncut_sums(p, planes, 5, 10.0, 4.0)
                ncut.ncut_back(inner, outer, *kept)
        for dtype, tf32 in product(
            (torch.float32, torch.float64, torch.bfloat16, torch.float16), (True, False)
        ):
            with torch.backends.cudnn.flags(allow_tf32=tf32):
                for channels, side in ((128, 3), (6, 7)):
                    x = torch.empty((2, channels, 50, 50), dtype=dtype, device="meta")
                    weight = torch.empty(
                        (channels, channels, side, side), dtype=dtype, device="meta"
                    )
                    bias = weight[:, 0, 0, 0]
                    masked_conv.masked_conv2d_pair(x, weight, bias, 1, 3, 1, 1, True)
                    masked_conv.masked_conv2d(x, weight, bias, x, 2, 1, 1, True)
    return launches


def triton_sources() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name → (source, options) of every distinct specialisation of the launches."""
    return dict(map(_specialise, triton_launches()))


def _specialise(launch: Launch) -> tuple[str, tuple[Any, dict[str, Any]]]:
    """As Triton does at a launch: 1 is a constant, a multiple of 16 is known to be one."""
    from triton.compiler import ASTSource

    signature, constants, aligned = {}, {}, {}
    for i, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        signature[parameter.name] = _type_name(value)
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
            aligned[(i,)] = [["tt.divisibility", 16]]
    dtype = next(kind[1:] for kind in signature.values() if kind.startswith("*"))
    variant = [str(value) for value in constants.values()]
    variant += ["aligned" if len(aligned) > _pointers(signature) else "any size"]
    name = f"{launch.kernel.__name__}[{', '.join([dtype, *variant])}]"
    source = ASTSource(launch.kernel, signature, constants, aligned)
    return name, (source, launch.options)


def _pointers(signature: dict[str, str]) -> int:
    return sum(kind.startswith("*") for kind in signature.values())


def _type_name(value: Any) -> str:
    names = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
    names |= {"int64": "i64", "int32": "i32", "int16": "i16", "uint8": "u8", "bool": "i1"}
    if isinstance(value, torch.Tensor):
        return "*" + names[str(value.dtype).removeprefix("torch.")]
    if isinstance(value, int):
        return "i32" if -(2**31) <= value < 2**31 else "i64"
    return "fp32"


def compile_triton(name: str, source: Any, options: dict[str, Any], arch: int) -> Usage:
    """Compile for `arch` (80 is sm_80), and read the machine code."""
    import triton
    from triton.backends.compiler import GPUTarget

    built = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(built.asm["cubin"])
        cubin.flush()
        command = [str(tools / "cuobjdump"), "-res-usage", cubin.name]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # A Triton kernel has no arrays of its own, so whatever is on its stack was spilled.
    registers, stack = map(int, re.findall(r"REG:(\d+) STACK:(\d+)", printed)[0])
    return Usage(name, arch, registers, built.metadata.shared, stack, 32 * built.metadata.num_warps)


# --- CUDA C++ ----------------------------------------------------------------------------------


# What a source's launcher asks for.
CUDA_OPTIONS = {"ncut": ["--ftz=true"], "slic": ["--fmad=false"]}


def cuda_sources() -> list[Path]:
    """csrc/cuda/*.cu"""
    return sorted((CSRC / "cuda").glob("*.cu"))


def compile_cuda(source: Path, arch: int, nvrtc: bool | None = None) -> list[Usage]:
    """Compile for `arch` with nvcc, where it is not with NVRTC: one `Usage` a kernel.

    Raises:
        RuntimeError: `source` does not compile; the message is the compiler's.
        FileNotFoundError: there is neither compiler.
    """
    nvcc = _nvcc_path()
    use_nvrtc = nvcc is None if nvrtc is None else nvrtc
    options = ["-std=c++17", f"-I{CSRC}", *CUDA_OPTIONS.get(source.stem, [])]
    log = _nvrtc(source, arch, options) if use_nvrtc else _nvcc(nvcc, source, arch, options)
    found = []
    for part in log.split("Compiling entry function '")[1:]:
        # An array that registers cannot hold, as its index is not known, is on the stack alone.
        stack = sum(map(int, re.findall(r"(\d+) bytes stack frame", part)))
        spills = max(stack, sum(map(int, re.findall(r"(\d+) bytes spill", part))))
        registers = re.findall(r"Used (\d+) registers", part)[0]
        shared = re.findall(r"(\d+) bytes smem", part) or [0]
        found.append(Usage(part.split("'")[0], arch, int(registers), int(shared[0]), spills))
    return found


def _nvcc_path() -> str | None:
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def _nvcc(nvcc: str | None, source: Path, arch: int, options: list[str]) -> str:
    """What ptxas says of every kernel."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(nvcc), "-cubin", f"-arch=sm_{arch}", "-Xptxas", "-v", *options, str(source)]
        command += ["-o", f"{folder}/out.cubin"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{source} does not compile for sm_{arch}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def _nvrtc(source: Path, arch: int, options: list[str]) -> str:
    """As `_nvcc`, with the library of the package nvidia-cuda-nvrtc."""
    library = ctypes.CDLL(str(_nvrtc_library()))
    program = ctypes.c_void_p()
    text = source.read_bytes()
    library.nvrtcCreateProgram(ctypes.byref(program), text, source.name.encode(), 0, None, None)
    flags = [f"-arch=sm_{arch}", "--ptxas-options=-v", f"-I{source.parent}", *options]
    argv = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
    failed = library.nvrtcCompileProgram(program, len(flags), argv)
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise RuntimeError(f"{source} does not compile for sm_{arch}:\n{log.value.decode()}")
    return log.value.decode()


def _nvrtc_library() -> Path:
    package = importlib.util.find_spec("nvidia")
    for folder in package.submodule_search_locations or () if package else ():
        for library in Path(folder).glob("*/lib/libnvrtc.so.*"):
            return library
    raise FileNotFoundError("no nvcc, and no NVRTC either: pip install nvidia-cuda-nvrtc")


# --- Report ------------------------------------------------------------------------------------


def table(usages: list[Usage]) -> str:
    """One line a kernel and architecture."""
    width = max([len("kernel"), *(len(usage.kernel) for usage in usages)])
    lines = [f"{'kernel':<{width}}  arch    registers  shared  spills  warps/SM"]
    for usage in usages:
        warps = usage.warps()
        lines.append(
            f"{usage.kernel:<{width}}  sm_{usage.arch:<4} {usage.registers:>9}  {usage.shared:>6}"
            f"  {usage.spills:>6}  {'-' if warps is None else warps:>8}"
        )
    return "\n".join(lines)


def triton_usages(archs: Sequence[int]) -> list[Usage]:
    """Every specialisation at every architecture."""
    sources = triton_sources()
    return [compile_triton(name, *sources[name], arch) for name in sources for arch in archs]


def cuda_usages(archs: Sequence[int]) -> list[Usage]:
    """Every kernel of csrc/cuda at every architecture."""
    jobs = list(product(cuda_sources(), archs))
    with ThreadPool(min(2, os.cpu_count() or 1)) as pool:  # each waits for a compiler
        found = pool.starmap(compile_cuda, jobs)
    return [usage for usages in found for usage in usages]


def save(usages: list[Usage], path: Path) -> None:
    """The table as CSV, and what compiled it."""
    nvcc = _nvcc_path()
    shown = subprocess.run([nvcc, "--version"], capture_output=True, text=True) if nvcc else None
    release = re.search(r"release [^,]+, (\S+)", shown.stdout) if shown else None
    about = {name: machine.describe("cpu")[name] for name in ("commit", "date", "packages")}
    about["nvcc"] = release[1] if release else "none"
    lines = [{**asdict(usage), "warps": usage.warps(), **about} for usage in usages]
    write_csv(lines, list(lines[0]), path)


KINDS = {"triton": triton_usages, "cuda": cuda_usages}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.compile", description=__doc__)
    parser.add_argument("kind", nargs="*", help="triton, cuda; both if not given")
    parser.add_argument("--arch", type=int, nargs="+", default=ARCHS, help="90 is sm_90")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table as CSV as well")
    options = parser.parse_args(arguments)
    if unknown := set(options.kind) - set(KINDS):
        parser.error(f"kind must be triton or cuda, got {', '.join(sorted(unknown))}")
    status, usages = 0, []
    for kind in options.kind or KINDS:
        try:
            usages += KINDS[kind](options.arch)
        except (FileNotFoundError, RuntimeError) as error:
            print(f"{kind}: {error}", file=sys.stderr)
            status = max(status, 2 if isinstance(error, FileNotFoundError) else 1)
    print(table(usages))
    if options.out and usages:
        save(usages, options.out)
    return status or int(any(usage.spills for usage in usages))


if __name__ == "__main__":
    sys.exit(main())
