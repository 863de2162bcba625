"""The C++ extension and the kernel sources that travel with it; the rest is in pyproject.toml.

FASTSEG_SANITIZE=address,undefined builds the extension with these sanitizers (`make sanitize`).
CXXFLAGS=-O1 builds it in less time, to be tested and not to be used.
"""

import os
import sysconfig
from glob import glob

from pybind11 import get_include
from pybind11.setup_helpers import ParallelCompile
from setuptools import Extension, find_packages, setup

if sanitizers := os.environ.get("FASTSEG_SANITIZE"):
    sanitize = [f"-fsanitize={sanitizers}"]
    optimise = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", *sanitize]
else:
    chosen = "-O" in os.environ.get("CXXFLAGS", "")  # setuptools adds them
    sanitize, optimise = [], ["-g0"] if chosen else ["-O3", "-g0"]

# With "fast", clang would fuse products with sums even where a pragma forbids it.
compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or ""
contract = "on" if "clang" in compiler else "fast"

# each_isa.h builds the kernels for x86-64-v2, v3 and v4 and picks one at run time, so nothing here
# names a processor.
native = Extension(
    "fastseg._native",
    sources=sorted(glob("csrc/*.cpp")),
    depends=glob("csrc/*.h"),
    include_dirs=["csrc", get_include()],
    language="c++",
    extra_compile_args=[
        "-std=c++17",
        *optimise,
        f"-ffp-contract={contract}",
        "-fvisibility=hidden",
        "-pthread",
        "-Wno-psabi",  # wide vectors pass between inlined functions only
    ],
    extra_link_args=["-pthread", *sanitize],
    optional=True,  # without a compiler fastseg runs on its reference, and `fastseg doctor` says so
)

ParallelCompile().install()  # a file a core

setup(
    ext_modules=[native],
    # CuPy compiles the CUDA kernels on the user's machine: their sources are data of the package.
    packages=[*find_packages(include=["fastseg*"]), "fastseg.csrc"],
    package_dir={"fastseg.csrc": "csrc"},
    package_data={"fastseg": ["py.typed", "_native.pyi"], "fastseg.csrc": ["*.h", "cuda/*.cu"]},
)
