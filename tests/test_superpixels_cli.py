"""`fastseg superpixels` and `fastseg eval superpixels`, run as a user would."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut, chelsea, coffee

from fastseg import slic, superpixel_scores
from fastseg.cli import main
from fastseg.metrics import label_boundaries
from fastseg.predict.labels import MOST, encode_labels, read_labels
from fastseg.predict.pictures import PictureError


@pytest.fixture
def folder(tmp_path):
    """Three photographs, small."""
    for name, picture in (("a", astronaut()), ("b", chelsea()), ("sub/c", coffee())):
        path = tmp_path / "pictures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[:180:3, :240:3]).save(path)
    return tmp_path


def cut(folder, *options):
    return main(["superpixels", str(folder / "pictures"), "-o", str(folder / "out"), *options])


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected(folder, name, **options):
    picture = np.array(Image.open(folder / "pictures" / f"{name}.png"))
    return slic(torch.from_numpy(picture).permute(2, 0, 1)[None], **options)[0]


@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_labels_are_those_of_the_operator(folder, suffix):
    assert cut(folder, "--segments", "20", "--compactness", "5", "--format", suffix) == 0
    rows = {row["labels"]: row for row in table(folder / "out" / "superpixels.csv")}
    assert set(rows) == {f"labels/{name}.{suffix}" for name in ("a", "b", "sub/c")}
    for name in ("a", "b", "sub/c"):
        path = folder / "out" / "labels" / f"{name}.{suffix}"
        labels = expected(folder, name, n_segments=20, compactness=5.0).numpy()
        assert (read_labels(str(path)) == labels).all()
        row = rows[f"labels/{name}.{suffix}"]
        assert int(row["superpixels"]) == len(np.unique(labels))
        assert row["size"] == f"{labels.shape[1]}x{labels.shape[0]}"


def test_png_is_16_bit_grey(folder):
    assert cut(folder, "--segments", "900") == 0
    with Image.open(folder / "out" / "labels" / "a.png") as image:
        assert image.mode == "I;16"
        assert np.asarray(image).max() > 255


def test_boundaries_are_drawn_in_yellow(folder):
    assert cut(folder, "--segments", "12") == 0
    drawn = np.array(Image.open(folder / "out" / "boundaries" / "a.jpg")).astype(int)
    edges = label_boundaries(expected(folder, "a", n_segments=12)[None])[0].numpy()
    yellow = drawn[..., :2].min(2) - drawn[..., 2]
    assert yellow[edges].mean() > yellow[~edges].mean() + 100


def test_no_boundaries(folder):
    assert cut(folder, "--no-boundaries") == 0
    assert not (folder / "out" / "boundaries").exists()


def test_second_run_does_what_is_missing_or_changed(folder, capsys):
    assert cut(folder) == 0
    (folder / "out" / "labels" / "b.png").unlink()
    capsys.readouterr()
    assert cut(folder) == 0
    assert "1 picture cut" in capsys.readouterr().err
    assert cut(folder, "--segments", "9") == 0
    assert "3 pictures cut" in capsys.readouterr().err


def test_masks_and_superpixels_share_a_folder(folder, capsys):
    assert cut(folder) == 0
    segment = ["segment", str(folder / "pictures"), "-o", str(folder / "out"), "--iterations", "2"]
    assert main(segment) == 0
    capsys.readouterr()
    assert cut(folder) == 0
    assert main(segment) == 0
    assert capsys.readouterr().err.count("3 were done") == 2


def test_a_folder_of_labels_is_not_overwritten(folder, capsys):
    (folder / "out" / "labels").mkdir(parents=True)
    assert cut(folder) == 2
    assert "labels is not of an earlier run" in capsys.readouterr().err


def test_a_broken_picture_is_named_and_the_others_go_on(folder, capsys):
    (folder / "pictures" / "broken.png").write_bytes(b"no picture")
    assert cut(folder) == 1
    assert "broken.png: not a picture" in capsys.readouterr().err
    assert [row["status"] for row in table(folder / "out" / "superpixels.csv")].count("done") == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--segments", "0"], "must be a whole number from 1, got '0'"),
        (["--compactness", "0"], "must be greater than 0, got '0'"),
        (["--compactness", "x"], "must be a number from 0, got 'x'"),
    ],
)
def test_bad_options(folder, capsys, options, message):
    with pytest.raises(SystemExit):
        cut(folder, *options)
    assert message in capsys.readouterr().err


def test_too_many_labels_for_a_png():
    labels = np.array([[MOST]], np.int32)
    with pytest.raises(PictureError, match="a PNG holds 65536 labels"):
        encode_labels(labels, ".png")
    assert encode_labels(labels, ".npy")


# --- eval superpixels --------------------------------------------------------------------------


def test_scores_are_the_mean_over_annotations_and_pictures(folder, capsys):
    assert cut(folder, "--segments", "20", "--format", "npy") == 0
    truths = {"a_0": 3, "a_1": 5, "b": 4}
    (folder / "truth").mkdir()
    for name, count in truths.items():
        labels = expected(folder, name[0], n_segments=count).numpy()
        Image.fromarray(labels.astype(np.uint8)).save(folder / "truth" / f"{name}.png")
    capsys.readouterr()
    command = ["eval", "superpixels", "--pred", str(folder / "out"), "--truth"]
    assert main([*command, str(folder / "truth"), "-o", str(folder / "scores.csv")]) == 1
    printed = capsys.readouterr()
    assert "sub/c: no label map of this name" in printed.err
    rows = {row["file"]: row for row in table(folder / "scores.csv")}
    assert [rows[name]["annotations"] for name in ("a", "b", "sub/c")] == ["2", "1", ""]

    def asa(name, truth):
        labels = expected(folder, name, n_segments=20), expected(folder, name, n_segments=truth)
        return superpixel_scores(*(value[None] for value in labels)).asa.item()

    of_a, of_b = (asa("a", 3) + asa("a", 5)) / 2, asa("b", 4)
    assert float(rows["a"]["asa"]) == pytest.approx(of_a)
    assert f"{(of_a + of_b) / 2:.2%}" in printed.out


def test_void_and_other_sizes(folder, capsys):
    for name, side in (("pred", 8), ("truth", 8), ("small", 4)):
        (folder / name).mkdir()
        labels = np.zeros((side, side), np.uint8)
        labels[:, 2:] = 255 if name == "truth" else 1
        Image.fromarray(labels).save(folder / name / "x.png")
    command = ["eval", "superpixels", "--pred", str(folder / "pred"), "--truth"]
    assert main([*command, str(folder / "truth"), "--void", "255"]) == 0
    scores = capsys.readouterr().out.splitlines()[-1].split()
    assert scores == ["100.00%", "0.00%", "100.00%", "1.0"]
    assert main([*command, str(folder / "small")]) == 1
    assert "x: the label map is 8x8, the truth 4x4" in capsys.readouterr().err


def test_what_is_no_label_map_is_refused(folder, capsys):
    (folder / "pred").mkdir()
    Image.fromarray(np.zeros((3, 3, 3), np.uint8)).save(folder / "pred" / "x.png")
    np.save(folder / "pred" / "y.npy", np.zeros((3, 3)))
    command = ["eval", "superpixels", "--pred", str(folder / "pred"), "--truth"]
    assert main([*command, str(folder / "pred")]) == 1
    printed = capsys.readouterr().err
    assert r"x.png must hold integers (h,w), got uint8 (3, 3, 3)" in printed
    assert r"y.npy must hold integers (h,w), got float64 (3, 3)" in printed
    assert main([*command, str(folder / "pictures" / "sub" / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err
