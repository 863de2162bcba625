"""What is imported when, and that the application needs nothing optional."""

import subprocess
import sys

import fastseg


def run(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_import_registers_the_operators():
    code = "import fastseg, torch; print(torch.ops.fastseg.iem, torch.ops.fastseg.gaussian_filter)"
    assert run(code) == "fastseg.iem fastseg.gaussian_filter\n"


def test_every_public_name_is_there():
    for name in fastseg.__all__:
        assert getattr(fastseg, name) is not None


def test_the_extra_train_is_imported_when_it_is_needed():
    code = """
import sys
import fastseg.train
from fastseg.cli import main
assert main(["train", "alchemy"]) == 2
print({"safetensors", "tensorboard", "tyro", "yaml"} & sys.modules.keys())
"""
    assert run(code) == "set()\n"


def test_the_application_runs_on_the_reference_alone(tmp_path):
    """Without triton, numba, cupy, scikit-image and the extension."""
    run(
        """
import sys
sys.modules.update(dict.fromkeys(("cupy", "fastseg._native", "numba", "skimage", "triton")))
import fastseg
import numpy as np
images = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16), np.uint8)
result = fastseg.iem(images, iterations=2)
assert result.masks.shape == (1, 1, 16, 16), result.masks.shape
from PIL import Image
picture, out = sys.argv[1] + "/x.png", sys.argv[1] + "/out"
Image.fromarray(images[0].transpose(1, 2, 0)).save(picture)
from fastseg.cli import main
assert main(["segment", picture, "-o", out, "--iterations", "2"]) == 0
""",
        str(tmp_path),
    )
    assert (tmp_path / "out" / "masks" / "x.png").exists()
    assert "backend reference" in (tmp_path / "out" / "index.html").read_text("utf-8")
