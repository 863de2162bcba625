"""What pip installed. `.ci/run` builds, installs and runs the wheel and the sdist themselves."""

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import fastseg

ROOT = Path(__file__).parents[1]


@pytest.fixture
def distribution() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution("fastseg")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("fastseg is imported from a checkout that pip has not installed")


@pytest.fixture
def extension() -> Path:
    spec = importlib.util.find_spec("fastseg._native")
    if spec is None or spec.origin is None:
        pytest.skip("the extension is not built")
    return Path(spec.origin)


def test_metadata(distribution):
    assert distribution.version == fastseg.__version__
    assert distribution.metadata["Requires-Python"] == ">=3.10"
    assert distribution.metadata["License-Expression"] == "Apache-2.0"


def test_dependencies_outside_extras_are_the_declared_few(distribution):
    core = [line for line in distribution.requires or () if "extra ==" not in line]
    names = {line.split(";")[0].split(">")[0].strip() for line in core}
    assert names == {"numpy", "pillow", "scikit-image", "scipy", "torch", "tqdm", "triton"}


def test_console_script(distribution):
    (script,) = (e for e in distribution.entry_points if e.group == "console_scripts")
    assert script.name == "fastseg"
    assert callable(script.load())


def test_build_needs_setuptools_and_pybind11_only():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requires = {line.split(">")[0] for line in project["build-system"]["requires"]}
    assert requires == {"setuptools", "pybind11"}


def test_extension_links_nothing_of_torch(extension):
    binary = extension.read_bytes()
    assert b"libstdc++" in binary
    assert b"libtorch" not in binary
    assert b"libc10" not in binary


def test_extension_passes_its_self_test(extension):
    command = [sys.executable, str(ROOT / "tests" / "native_selftest.py"), str(extension)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "checks passed" in done.stdout
