"""`fastseg train`: flags, YAML, and what it says of bad ones."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fastseg.cli import main
from fastseg.methods import METHODS
from fastseg.train import TrainConfig, load, parse
from fastseg.train.checkpoint import CHECKPOINT
from tests.train.tiny import TinyConfig

QUICK = ["--data", "fruits?limit=8", "--size", "16", "--epochs", "1", "--eval-every", "0"]
QUICK += ["--no-tensorboard", "--device", "cpu"]


def train(*arguments):
    return main(["train", "tiny", *map(str, arguments)])


def status(*arguments):
    """Of the command's end, whoever brings it about."""
    try:
        return train(*arguments)
    except SystemExit as stop:
        return stop.code


def flags(*arguments):
    return parse("tiny", TinyConfig, ["--data", "fruits", "--out", "x", *arguments])


def test_flags_reach_both_configurations():
    options, config = flags("--lr", "0.5", "--size", "32", "48", "--pair", "3", "4", "--no-norm")
    assert options == TrainConfig("fruits", "x", size=(32, 48))
    assert config == TinyConfig(lr=0.5, pair=(3, 4), norm=False)
    assert flags("--size", "32", "--clip", "1")[0] == TrainConfig("fruits", "x", size=32, clip=1)


def test_yaml_is_overridden_by_flags(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(
        "method: tiny\nlr: 0.5\nnorm: false\npair: [3, 4]\nsize: [32, 48]\nclip: null\nseed: 3\n"
        "batch_size: 2\ntensorboard: true\n"
    )
    options, config = flags("--config", str(file), "--seed", "4", "--no-tensorboard")
    assert options == TrainConfig("fruits", "x", size=(32, 48), seed=4, tensorboard=False)
    assert config == TinyConfig(lr=0.5, norm=False, pair=(3, 4), batch_size=2)
    assert flags(f"--config={file}")[0].seed == 3


def test_a_run_can_be_repeated_from_its_own_file(tmp_path, one_thread):
    assert train(*QUICK, "--out", tmp_path / "a", "--pair", 5, 6, "--seed", 2) == 0
    config = tmp_path / "a" / "config.yaml"
    assert yaml.safe_load(config.read_text())["pair"] == [5, 6]
    assert train("--config", config, "--out", tmp_path / "b") == 0
    a, b = (load(tmp_path / out / CHECKPOINT).facts for out in "ab")
    assert a["config"] == b["config"]
    assert a["options"] | {"out": ""} == b["options"] | {"out": ""}
    assert a["versions"].keys() == {"fastseg", "commit", "torch", "python"}
    assert (a["channels"], a["classes"]) == (3, len(a["names"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: fast", "Error parsing --lr: could not convert"),
        ("wdth: 3", "no option wdth; there are data, out, seed"),
        ("method: iic", "is of another method than tiny"),
        ("- 1", "must hold options, NAME: VALUE"),
        ("a: [", "cannot be read as YAML"),
        (None, "cannot be read as YAML"),
    ],
)
def test_bad_yaml(tmp_path, capsys, text, message):
    file = tmp_path / "x.yaml"
    if text is not None:
        file.write_text(text)
    assert status(*QUICK, "--out", tmp_path / "a", "--config", file) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "fast"], "Error parsing --lr: could not convert"),
        (["--wdth", "3"], "Unrecognized options: --wdth"),
        (["--precision", "fp8"], "invalid choice"),
        (["--workers", "-1"], "`--workers` must be at least 0, got -1"),
        (["--clip", "0"], "`--clip` must be greater than 0, got 0"),
        (["--config"], "`--config` needs the name of a YAML file"),
        (["--data", "nowhere"], "nowhere"),
        (["--data", "folder:/nowhere"], "/nowhere"),
        (["--size", "-3"], "`size` must be an integer of at least 1, got -3"),
        (["--split", "odd"], "odd"),
    ],
)
def test_bad_flags(tmp_path, capsys, arguments, message):
    assert status(*QUICK, "--out", tmp_path / "a", *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_out_and_data_must_be_given(capsys, tmp_path):
    assert train("--data", "fruits") == 2
    assert "`--out` must be given: the folder of the run" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train("--out", tmp_path / "a")
    assert "--data" in capsys.readouterr().err


def test_an_unknown_method_is_answered_with_those_there_are(capsys):
    assert main(["train", "alchemy"]) == 2
    assert f"no method 'alchemy': there are {', '.join(sorted(METHODS))}" in capsys.readouterr().err


def test_data_without_truth_needs_a_number_of_classes(tmp_path, capsys, one_thread):
    (tmp_path / "in").mkdir()
    for i in range(4):
        picture = np.random.default_rng(i).integers(0, 255, (20, 24, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / "in" / f"{i}.png")
    arguments = [*QUICK, "--data", f"folder:{tmp_path / 'in'}", "--out", tmp_path / "a"]
    assert train(*arguments) == 2
    assert "`--classes` must be given: folder:" in capsys.readouterr().err
    assert train(*arguments, "--classes", 3, "--eval-every", 1) == 0
    assert "scores" not in (tmp_path / "a" / "metrics.jsonl").read_text()


def test_a_size_that_the_method_cannot_take(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(METHODS["tiny"], "multiple", 12)
    assert train(*QUICK, "--out", tmp_path / "a") == 2
    message = "`--size` must be divisible by 12 for this method, such as 12 12, got (16, 16)"
    assert message in capsys.readouterr().err


def test_a_run_of_another_method_is_left_alone(tmp_path, capsys, monkeypatch, one_thread):
    assert train(*QUICK, "--out", tmp_path / "a") == 0
    monkeypatch.setitem(METHODS, "other", METHODS["tiny"])
    assert main(["train", "other", *QUICK, "--out", str(tmp_path / "a")]) == 2
    assert "is a run of tiny: choose another `--out`" in capsys.readouterr().err


def test_what_is_not_finite_makes_the_status_1(tmp_path, capsys, one_thread):
    assert train(*QUICK, "--out", tmp_path / "a", "--nan-at", 1) == 1
    assert "fastseg: the loss became nan in step 1" in capsys.readouterr().err


def test_help_lists_the_options_of_method_and_loop(capsys):
    with pytest.raises(SystemExit) as stop:
        train("--help")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("Options of the tiny method.", "--die-at INT", "--save-every INT", "Step size."):
        assert words in text


def test_a_missing_package_is_named():
    code = """
import runpy, sys
sys.modules["tyro"] = None
runpy.run_path(sys.argv.pop(1), None, "__main__")
"""
    tiny = [str(Path(__file__).parent / "tiny.py"), "train", "tiny", "--data", "fruits"]
    command = [sys.executable, "-c", code, *tiny]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "tyro is not installed: pip install 'fastseg[train]'" in done.stderr
