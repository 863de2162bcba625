"""The command line, from arguments to exit status."""

import csv
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from PIL import Image

from fastseg import __version__
from fastseg.cli import main
from fastseg.commands.segment import SAMPLES

QUICK = ["--size", "24", "--iterations", "2"]


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def blob(side=24, value=255):
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = value
    return mask


def photo(side=24, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 90, (side, side, 3)) + blob(side, 160)[..., None]


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path):
    """Three pictures, and true masks of two values beside them."""
    for i, name in enumerate(("a", "b", "sub/c")):
        save(tmp_path / "pictures" / f"{name}.png", photo(seed=i))
        save(tmp_path / "truth" / f"{name}.png", blob())
    return tmp_path


def segment(folder, *options):
    arguments = ["segment", str(folder / "pictures"), "-o", str(folder / "out"), *QUICK]
    return main([*arguments, *map(str, options)])


# --- segment -----------------------------------------------------------------------------------


def test_segment(folder, capsys):
    assert segment(folder, "--overlay") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        r"3 pictures segmented in \d+\.\d s \(\d+\.\d/s\): .*out/index\.html\n", err
    )
    assert (folder / "out" / "overlays" / "sub" / "c.jpg").exists()
    assert segment(folder, "--overlay") == 0
    assert "0 pictures segmented in" in (err := capsys.readouterr().err)
    assert "3 were done" in err
    assert segment(folder, "--force", "--no-sheet") == 0
    assert "3 pictures segmented in" in capsys.readouterr().err


def test_a_broken_picture_makes_the_status_1(folder, capsys):
    (folder / "pictures" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    assert segment(folder) == 1
    err = capsys.readouterr().err
    assert f"{folder}/pictures/broken.jpg: " in err
    assert "3 pictures segmented" in err
    assert "1 failed" in err


def test_ablations_reach_iem(folder):
    assert (
        segment(folder, "--lamb", "0", "--smoothing", "none", "--everywhere", "--one-filter") == 0
    )
    html = (folder / "out" / "index.html").read_text("utf-8")
    for words in ("λ 0,", "smoothing none", "updates everywhere", "σ 5, 21 taps, 1 passes"):
        assert words in html


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "0"], "must be a whole number from 1, got '0'"),
        (["--size", "big"], "must be a whole number from 1, got 'big'"),
        (["--init", "44,,78"], "must be a whole number from 1, got ''"),
        (["--iterations", "-1"], "must be a whole number from 0, got '-1'"),
        (["--jobs", "0"], "must be a whole number from 1, got '0'"),
        (["--lamb", "nan"], "must be a number from 0, got 'nan'"),
        (["--smoothing", "much"], "invalid choice: 'much'"),
        (["--backend", "abacus"], "invalid choice: 'abacus'"),
    ],
)
def test_bad_options(folder, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        segment(folder, *options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_bad_usage(folder, capsys):
    assert main(["segment", str(folder / "nowhere"), "-o", str(folder / "out")]) == 2
    assert capsys.readouterr().err.endswith(f"no pictures in {folder}/nowhere\n")
    assert segment(folder, "--truth", folder / "nowhere") == 2
    assert capsys.readouterr().err.endswith(f"{folder}/nowhere is not a folder\n")
    (folder / "out").write_text("in the way")
    assert segment(folder) == 2
    assert "File exists" in capsys.readouterr().err


# --- truth -------------------------------------------------------------------------------------


def test_segment_with_truth(folder, capsys):
    assert segment(folder, "--iterations", "30", "--truth", folder / "truth") == 0
    out = capsys.readouterr().out
    assert "foreground from there on (--truth-values grey)." in out
    rows = table(folder / "out" / "results.csv")
    for row in rows:
        mask = np.asarray(Image.open(folder / "out" / row["mask"]).copy()) == 255
        expected = (mask & (blob() == 255)).sum() / (mask | (blob() == 255)).sum()
        assert float(row["iou"]) == pytest.approx(expected, abs=1e-5)
        assert float(row["oracle_iou"]) >= float(row["iou"])
    mean = 100 * sum(float(row["iou"]) for row in rows) / 3
    assert re.search(rf"honest +\d+\.\d\d +{mean:.2f} ", out)
    # Alone it says the same.
    paths = ["--pred", str(folder / "out"), "--truth", str(folder / "truth")]
    assert main(["eval", "masks", *paths, "-o", str(folder / "scores.csv")]) == 0
    assert capsys.readouterr().out == out
    scores = table(folder / "scores.csv")
    assert [row["file"] for row in scores] == ["a", "b", "sub/c"]
    assert [float(r["dice"]) for r in scores] == pytest.approx(
        [float(r["dice"]) for r in rows], abs=1e-5
    )


def test_segment_with_a_truth_missing(folder, capsys):
    (folder / "truth" / "b.png").unlink()
    save(folder / "truth" / "sub" / "c.png", blob(30))
    assert segment(folder, "--truth", folder / "truth") == 1
    err = capsys.readouterr().err
    assert f"b.png: not scored: no mask of this name in {folder}/truth" in err
    assert "c.png: not scored: the mask is 24x24, the truth 30x30" in err
    rows = table(folder / "out" / "results.csv")
    assert [bool(row["iou"]) for row in rows] == [True, False, False]
    assert all(row["status"] != "failed" for row in rows)


def evaluate(folder, *options):
    paths = ["--pred", str(folder / "pred"), "--truth", str(folder / "truth")]
    return main(["eval", "masks", *paths, "-o", str(folder / "scores.csv"), *options])


def test_void_pixels_of_an_index_truth_do_not_count(tmp_path, capsys):
    pred, truth = blob(24, 255), blob(24, 1)
    truth[:3] = 255
    pred[:3] = 255  # wrong, but void
    truth[20, :] = 1  # 24 pixels missed
    save(tmp_path / "pred" / "a.png", pred)
    save(tmp_path / "truth" / "a.png", truth)
    # A file without a 1 is read as its folder is: all void but for 0.
    save(tmp_path / "pred" / "b.png", blob(24, 255))
    save(tmp_path / "truth" / "b.png", blob(24, 255))
    assert evaluate(tmp_path) == 0
    assert "255 void (--truth-values index)" in capsys.readouterr().out
    a, b = table(tmp_path / "scores.csv")
    assert float(a["accuracy"]) == pytest.approx(1 - 24 / (21 * 24))
    assert float(a["iou"]) == pytest.approx(144 / 168)
    assert [float(b[k]) for k in ("accuracy", "iou")] == [1, 1]
    # Told that 255 is foreground, it is.
    assert evaluate(tmp_path, "--truth-values", "grey") == 0
    assert float(table(tmp_path / "scores.csv")[1]["iou"]) == 1


def test_grey_truth_is_cut_in_the_middle(tmp_path):
    truth = np.tile(np.arange(256, dtype=np.uint8), (4, 1))  # holds a 1, yet is no index mask
    save(tmp_path / "truth" / "a.png", truth)
    save(tmp_path / "pred" / "a.png", 255 * (truth >= 128))
    assert evaluate(tmp_path) == 0
    assert float(table(tmp_path / "scores.csv")[0]["iou"]) == 1


def test_predictions_may_be_index_masks_too(tmp_path):
    save(tmp_path / "truth" / "a.png", blob())
    save(tmp_path / "pred" / "a.png", blob(24, 1))
    assert evaluate(tmp_path) == 0
    assert float(table(tmp_path / "scores.csv")[0]["iou"]) == 1


def test_oracle_polarity(tmp_path, capsys):
    save(tmp_path / "truth" / "a.png", blob())
    save(tmp_path / "pred" / "a.png", 255 - blob())
    assert evaluate(tmp_path) == 0
    out = capsys.readouterr().out
    assert re.search(r"honest( +0\.00){4}", out)
    assert re.search(r"oracle polarity( +100\.00){4}", out)


def test_masks_that_cannot_be_scored_are_named(tmp_path, capsys):
    for name in ("good", "large", "colour", "broken", "alone", "index"):
        save(tmp_path / "pred" / f"{name}.png", blob())
    save(tmp_path / "truth" / "good.png", blob(24, 1))
    save(tmp_path / "truth" / "large.png", blob(30, 1))
    save(tmp_path / "truth" / "colour.png", photo())
    save(tmp_path / "truth" / "index.png", blob(24, 7))
    save(tmp_path / "truth" / "other.png", blob())
    (tmp_path / "truth" / "broken.png").write_text("no picture")
    assert evaluate(tmp_path) == 1
    notes = {row["file"]: row["note"] for row in table(tmp_path / "scores.csv")}
    err = capsys.readouterr().err
    for name, note in notes.items():
        assert (f"{name}: {note}" in err) == (name != "good")
    assert notes["good"] == ""
    assert notes["large"] == "the mask is 24x24, the truth 30x30"
    assert "is not an 8-bit mask of one channel" in notes["colour"]
    assert "cannot be decoded" in notes["broken"]
    assert "no mask of this name in" in notes["alone"]
    assert "no mask of this name in" in notes["other"]
    assert re.search(r"an index mask holds 0, 1 and 255, .*index\.png also 7", notes["index"])


def test_two_true_masks_of_one_name(tmp_path, capsys):
    save(tmp_path / "pred" / "a.png", blob())
    save(tmp_path / "truth" / "a.png", blob())
    save(tmp_path / "truth" / "a.bmp", blob())
    assert evaluate(tmp_path) == 2
    assert "two masks of one name: " in capsys.readouterr().err


# --- the other commands ------------------------------------------------------------------------


def test_demo(tmp_path, capsys):
    pytest.importorskip("skimage")
    save(tmp_path / "mine.png", photo())
    arguments = ["demo", "-o", str(tmp_path / "demo"), "--size", "16", "--iterations", "1"]
    assert main([*arguments, str(tmp_path / "mine.png")]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "size", "foreground", "error", "steps", "seconds"]
    assert [line.split()[0] for line in lines] == [*SAMPLES, "mine.png"]
    assert len(table(tmp_path / "demo" / "results.csv")) == len(SAMPLES) + 1


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"fastseg {__version__}\n")
    try:
        from fastseg import _native
    except ImportError:
        assert "The extension is MISSING" in out
    else:
        assert f"The extension is built and runs {_native.isa()} code here." in out
    assert re.search(r"^iem +(native|reference) ", out, re.MULTILINE)


def test_doctor_says_that_the_extension_is_missing():
    code = """
import sys
sys.modules["fastseg._native"] = None
from fastseg.cli import main
sys.exit(main(["doctor"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "The extension is MISSING" in done.stdout
    assert re.search(r"^iem +reference ", done.stdout, re.MULTILINE)


# --- Ctrl-C ------------------------------------------------------------------------------------


def start(folder, *options):
    arguments = ["segment", folder / "pictures", "-o", folder / "out", "--jobs", "2", *options]
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "fastseg", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_whole_files_and_the_next_run_goes_on(tmp_path, number):
    count = 400
    for i in range(count):
        save(tmp_path / "pictures" / f"{i:03}.png", photo(48, seed=i))
    masks = tmp_path / "out" / "masks"
    with start(tmp_path, "--iterations", "5") as process:
        while process.poll() is None and len(list(masks.glob("*.png"))) < 5:
            time.sleep(0.005)
        process.send_signal(number)
        assert process.stderr is not None
        err = process.stderr.read()
    assert process.returncode == 130, err
    assert "fastseg: interrupted" in err

    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix == ".part"]
    for path in files:
        if path.suffix in (".png", ".jpg"):
            with Image.open(path) as image:
                image.load()
    rows = table(tmp_path / "out" / "results.csv")
    assert 5 <= len(rows) < count
    assert {row["mask"] for row in rows} == {f"masks/{path.name}" for path in masks.glob("*.png")}
    html = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert html.count("<article>") == len(rows)

    with start(tmp_path, "--iterations", "5") as process:
        assert process.stderr is not None
        err = process.stderr.read()
    assert process.returncode == 0, err
    assert f"{count - len(rows)} pictures segmented" in err
    assert f"{len(rows)} were done" in err
    assert len(table(tmp_path / "out" / "results.csv")) == count


def test_ctrl_c_does_not_wait_for_a_long_picture(tmp_path):
    """The one in work is left alone after five seconds, and nothing of it is written."""
    save(tmp_path / "pictures" / "long.png", photo(512))
    begun = time.monotonic()
    with start(
        tmp_path, "--size", "full", "--backend", "reference", "--iterations", "900"
    ) as process:
        while process.poll() is None and not (tmp_path / "out" / "fastseg.jsonl").exists():
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        err = process.stderr.read()
    assert process.returncode == 130, err
    assert time.monotonic() - begun < 60
    assert sorted(os.listdir(tmp_path / "out")) == ["fastseg.jsonl", "index.html", "results.csv"]
    assert table(tmp_path / "out" / "results.csv") == []


def test_a_terminal_gets_a_bar_with_rate_and_time_left(folder):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    arguments = ["segment", folder / "pictures", "-o", folder / "out", *QUICK]
    process = subprocess.Popen(
        [sys.executable, "-m", "fastseg", *map(str, arguments)], stderr=theirs, close_fds=True
    )
    os.close(theirs)
    drawn = b""
    try:
        while part := os.read(ours, 1000):
            drawn += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    assert re.search(rb"\| 0/3 \[00:00<\?, \? pictures/s\]", drawn)
    assert b"3 pictures segmented in" in drawn.splitlines()[-1]
