"""ISPRS Potsdam, from TIFF files to tiles: `potsdam-3`, `potsdam-6`, `fastseg data potsdam`."""

import re
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from fastseg.cli import main
from fastseg.data import DataError, batches, open_dataset
from fastseg.data.potsdam import COLOURS, find_raw

PALETTE = np.array(list(COLOURS.values()), np.uint8)
NAMES = ("2_10", "2_13", "7_7")  # the second without labels


def tiff(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def raw(tmp_path):
    """Three pictures of 2×3 tiles as the archives have them."""
    random = np.random.default_rng(0)
    for name in NAMES:
        pixels = random.integers(0, 256, (800, 1200, 4), np.uint8)
        tiff(tmp_path / "raw/4_Ortho_RGBIR" / f"top_potsdam_{name}_RGBIR.tif", pixels)
        if name != "2_13":
            path = f"raw/5_Labels_for_participants/top_potsdam_{name}_label.tif"
            tiff(tmp_path / path, PALETTE[random.integers(0, 6, (800, 1200))])
    return tmp_path / "raw"


def pixels(raw, name):
    with Image.open(raw / "4_Ortho_RGBIR" / f"top_potsdam_{name}_RGBIR.tif") as image:
        return np.array(image)


def label_file(raw, name):
    return raw / "5_Labels_for_participants" / f"top_potsdam_{name}_label.tif"


def prepare(raw, *options):
    return main(["data", "potsdam", str(raw), str(raw.parent / "out"), *options])


def test_tiles_are_the_pictures_at_half_resolution(raw):
    assert prepare(raw) == 0
    dataset = open_dataset(f"potsdam-6:{raw.parent}/out", "all")
    keys = [f"{name}/{i:03d}" for name in NAMES for i in range(6)]
    assert [dataset[i].key for i in range(len(dataset))] == keys
    assert (dataset.channels, dataset.classes[4]) == (4, "car")
    picture = pixels(raw, "7_7").astype(int)
    halves = (picture.reshape(400, 2, 600, 2, 4).sum((1, 3)) + 2) // 4
    assert (dataset[16].image == halves[200:, 200:400]).all()  # row 1, column 1
    with Image.open(label_file(raw, "7_7")) as image:
        colours = np.array(image)[400::2, 400:800:2]
    assert (PALETTE[dataset[16].labels] == colours).all()
    assert dataset[7].labels is None


@pytest.mark.parametrize("extra", ["unspecified", "assocalpha", "unassalpha"])
@pytest.mark.parametrize("order", ["contig", "separate"])
def test_infrared_is_a_channel_like_others(raw, extra, order):
    """Whatever the TIFF file says that its fourth is."""
    planes = pixels(raw, "2_10")
    before = pixels_of(raw)
    tifffile.imwrite(
        raw / "4_Ortho_RGBIR" / "top_potsdam_2_10_RGBIR.tif",
        np.moveaxis(planes, 2, 0) if order == "separate" else planes,
        photometric="rgb",
        planarconfig=order,
        extrasamples=[extra],
    )
    assert (pixels_of(raw) == before).all()


def pixels_of(raw):
    assert prepare(raw, "--force") == 0
    return open_dataset(f"potsdam-6:{raw.parent}/out", "all")[2].image


def test_three_classes_join_two_each(raw):
    prepare(raw)
    out: Any = [open_dataset(f"potsdam-{n}:{raw.parent}/out", "all") for n in (6, 3)]
    six, three = (dataset[0].labels for dataset in out)
    assert (three == np.array([0, 1, 2, 2, 0, 1])[six]).all()
    assert open_dataset(f"potsdam-3:{raw.parent}/out").classes == (
        "road and car", "building and clutter", "vegetation and tree",
    )  # fmt: skip


def test_splits(raw):
    prepare(raw)
    train, test, every = (
        [s.key for s in map(d.__getitem__, range(len(d)))]
        for d in (open_dataset(f"potsdam-3:{raw.parent}/out", s) for s in ("train", "test", "all"))
    )
    assert len(test) == 2  # a tenth of 18
    assert not any(key.startswith("2_13") for key in test)
    assert sorted(train + test) == every
    with pytest.raises(DataError, match=r"splits of potsdam-3 are train, test, all, got 'val'"):
        open_dataset(f"potsdam-3:{raw.parent}/out", "val")


def test_batches_have_four_channels(raw):
    prepare(raw)
    dataset = open_dataset(f"potsdam-3:{raw.parent}/out", "all")
    batch = next(batches(dataset, dataset.geometry, 18, seed=0, epoch=0, train=False))
    assert batch.images.shape == (18, 4, 200, 200)
    assert batch.labels is not None
    assert (batch.labels[6:12] == -1).all()
    assert batch.valid.all()
    assert torch.equal(batch.images[0] * 255, torch.from_numpy(dataset[0].image).movedim(2, 0))


def test_what_is_done_is_left(raw, capsys):
    prepare(raw)
    out = raw.parent / "out"
    (out / "images" / "2_13.npy").unlink()
    (out / "images" / "2_10.npy").write_bytes(b"kept")
    label_file(raw, "2_10").write_bytes(b"not read")
    assert prepare(raw, "--jobs", "1") == 0
    assert "3 of 3 pictures are in" in capsys.readouterr().err
    assert (out / "images" / "2_10.npy").read_bytes() == b"kept"
    assert (out / "images" / "2_13.npy").exists()
    assert not list(out.rglob("*.part"))
    with pytest.raises(DataError, match=r"2_10.npy cannot be read"):
        open_dataset(f"potsdam-3:{out}")
    assert prepare(raw, "--force") == 1
    assert "2_10_label.tif cannot be decoded" in capsys.readouterr().err


def test_unknown_colours_are_named(raw, capsys):
    for pixel, name in (((3, 7), "7_7"), ((799, 1199), "2_10")):
        with Image.open(label_file(raw, name)) as image:
            colours = np.array(image)
        colours[pixel] = (255, 0, 255) if name == "7_7" else (255, 254, 0)
        tiff(label_file(raw, name), colours)
    assert prepare(raw) == 1
    error = capsys.readouterr().err
    assert "7_7_label.tif: row 3, column 7 has the colour (255, 0, 255), and 1 pixels" in error
    assert "2_10_label.tif: row 799, column 1199 has the colour (255, 254, 0)" in error
    assert "1 of 3 pictures are in" in error
    assert "2 failed" in error
    assert prepare(raw, "--unknown-void") == 0
    dataset: Any = open_dataset(f"potsdam-6:{raw.parent}/out", "all")
    assert [dataset[index].labels.max() for index in (0, 12)] == [5, 5]
    assert dataset[12].labels.min() == 0


def test_black_has_no_class(raw):
    colours = np.zeros((800, 1200, 3), np.uint8)
    colours[:400] = 255
    tiff(label_file(raw, "2_10"), colours)
    prepare(raw)
    dataset: Any = open_dataset(f"potsdam-6:{raw.parent}/out", "all")
    assert (dataset[0].labels == 0).all()
    assert (dataset[3].labels == -1).all()


def test_which_labels_are_taken(raw):
    folder = raw / "5_Labels_all"
    for name in NAMES:
        for kind in ("label", "label_noBoundary"):
            tiff(folder / f"top_potsdam_{name}_{kind}.tif", np.zeros((2, 2, 3), np.uint8))

    def labels():
        return {picture.name: picture.labels for picture in find_raw(raw)}

    assert labels() == {name: (name != "2_13" and label_file(raw, name)) or None for name in NAMES}
    for name in ("2_10", "7_7"):
        label_file(raw, name).unlink()
    assert labels() == {name: folder / f"top_potsdam_{name}_label.tif" for name in NAMES}
    (folder / "top_potsdam_7_7_label.tif").unlink()
    assert labels()["7_7"] == folder / "top_potsdam_7_7_label_noBoundary.tif"


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("RGBIR", (800, 1200, 3), r"must have 4 channels of 8 bits, got uint8 \(800, 1200, 3\)"),
        ("RGBIR", (800, 1000, 4), r"must have sides that are multiples of 400, got 1000x800"),
        ("label", (400, 1200, 3), r"2_10_label.tif has not the size of its picture"),
    ],
)
def test_malformed_archives(raw, capsys, kind, shape, message):
    folder = "4_Ortho_RGBIR" if kind == "RGBIR" else "5_Labels_for_participants"
    tiff(raw / folder / f"top_potsdam_2_10_{kind}.tif", np.full(shape, 255, np.uint8))
    assert prepare(raw) == 1
    assert re.search(message, capsys.readouterr().err)


def test_missing_data_say_where_to_get_them(tmp_path, capsys):
    with pytest.raises(DataError, match=r"images holds no tiles. Get 4_Ortho_RGBIR.zip .* ISPRS"):
        open_dataset(f"potsdam-6:{tmp_path}")
    assert prepare(tmp_path) == 2
    assert "holds no pictures top_potsdam_…_RGBIR.tif. Get 4_Ortho" in capsys.readouterr().err
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "2_10.npy", np.zeros((2, 100, 100, 4), np.uint8))
    with pytest.raises(DataError, match=r"must hold uint8 \(N, 200, 200, 4\), got uint8 \(2, 100"):
        open_dataset(f"potsdam-6:{tmp_path}")
