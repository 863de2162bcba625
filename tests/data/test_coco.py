"""COCO by its archive's layout: `coco-stuff-15`, `coco-stuff-3`, `coco-persons`."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastseg.data import DataError, batches, open_dataset
from fastseg.data.coco_stuff import COARSE

SKY, PLANT, GROUND, WALL, PERSON, NONE = 156, 93, 124, 171, 0, 255
SHAPE = (360, 420)


def save(root, name, fine, split="train2017"):
    """A picture whose red is its fine labels."""
    for folder in ("images", "annotations"):
        (root / folder / split).mkdir(parents=True, exist_ok=True)
    Image.fromarray(fine).save(root / "annotations" / split / f"{name}.png")
    picture = np.stack([fine, 255 - fine, fine // 2], -1)
    Image.fromarray(picture).save(root / "images" / split / f"{name}.jpg", quality=100)


def areas(shares, shape=SHAPE):
    """Fine labels side by side, so many percent of the width each."""
    fine, start = np.full(shape, NONE, np.uint8), 0
    for label, share in shares.items():
        end = start + shape[1] * share // 100
        fine[:, start:end] = label
        start = end
    return fine


@pytest.fixture
def root(tmp_path):
    save(tmp_path, "000001", areas({SKY: 50, PLANT: 30}))
    save(tmp_path, "000002", areas({SKY: 50, WALL: 25}))  # not 75 % of three classes
    save(tmp_path, "000003", areas({SKY: 50, PERSON: 50}))
    save(tmp_path, "000004", areas({SKY: 100}, (359, 420)))
    save(tmp_path, "000005", areas({GROUND: 60, PERSON: 10, WALL: 15}), "val2017")
    save(tmp_path, "000006", areas({GROUND: 90, PERSON: 10}), "val2017")
    return tmp_path


def keys(spec, split):
    dataset = open_dataset(spec, split)
    return [dataset[i].key for i in range(len(dataset))]


def test_which_pictures_are_of_the_set(root):
    expected = {
        "coco-stuff-3": (["train2017/000001"], ["val2017/000006"]),
        "coco-stuff-15": (
            ["train2017/000001", "train2017/000002"], ["val2017/000005", "val2017/000006"],
        ),
        "coco-persons": (["train2017/000003"], ["val2017/000005", "val2017/000006"]),
    }  # fmt: skip
    for name, (train, test) in expected.items():
        assert keys(f"{name}:{root}", "train") == train
        assert keys(f"{name}:{root}", "test") == test
        assert keys(f"{name}:{root}", "all") == train + test


def test_classes(root):
    stuff: Any = open_dataset(f"coco-stuff-15:{root}")
    assert len(stuff.classes) == 15
    column = {0: stuff.classes.index("sky"), 60: stuff.classes.index("wall"), -1: -1}
    labels = stuff[1].labels
    assert {at: labels[5, at * 420 // 100 if at >= 0 else -1] for at in column} == column
    three: Any = open_dataset(f"coco-stuff-3:{root}")
    assert three.classes == ("sky", "plant", "ground")
    assert np.unique(three[0].labels).tolist() == [-1, 0, 1]
    persons: Any = open_dataset(f"coco-persons:{root}", "test")
    assert persons.classes == ("other", "person")
    assert np.bincount(persons[0].labels.ravel() + 1).tolist() == [
        360 * n for n in (420 * 15 // 100, 420 * 75 // 100, 42)
    ]


def test_every_fine_label_of_stuff_has_its_kind():
    fine = sorted(label for group in COARSE.values() for label in group)
    assert fine == list(range(91, 182))


def test_a_third_and_a_cut(root):
    dataset = open_dataset(f"coco-stuff-3:{root}", "test")
    options: dict[str, Any] = {"seed": 0, "epoch": 0}
    (still,) = batches(dataset, dataset.geometry, 1, train=False, **options)
    (moved,) = batches(dataset, dataset.geometry, 1, **options)
    assert still.images.shape == moved.images.shape == (1, 3, 128, 128)
    assert still.labels is not None
    assert torch.equal(still.labels >= 0, still.valid)
    assert (still.labels[still.valid] == 2).all()  # ground
    # A third of 360×420 is 120×140: a border of 4 above and below, persons in the last 14 columns.
    assert still.valid[0, 4:124, :120].all()
    assert not still.valid[0, :4].any()
    assert not still.valid[0, :, 120:].any()


def test_pictures_are_chosen_once(root, monkeypatch):
    before = keys(f"coco-stuff-3:{root}", "all")
    assert (root / "curated" / "coco-stuff-3-train2017.txt").read_text() == "000001\n"
    monkeypatch.setattr("fastseg.data.coco_stuff.work", None)
    assert keys(f"coco-stuff-3:{root}", "all") == before
    (root / "curated" / "coco-stuff-3-train2017.txt").write_text("000002\n000003\n")
    assert keys(f"coco-stuff-3:{root}", "train") == ["train2017/000002", "train2017/000003"]


def test_folders_that_cannot_be_written_to(root, monkeypatch):
    def refuse(*arguments):
        raise PermissionError("read only")

    monkeypatch.setattr("fastseg.data.coco_stuff.write", refuse)
    assert keys(f"coco-stuff-3:{root}", "train") == ["train2017/000001"]
    assert not (root / "curated").exists()


def test_missing_and_malformed(root, tmp_path):
    with pytest.raises(DataError, match=r"images/train2017 does not exist. Get train2017.zip"):
        open_dataset(f"coco-stuff-3:{tmp_path}/none")
    with pytest.raises(DataError, match=r"splits of coco-persons are train, test, all, got 'val'"):
        open_dataset(f"coco-persons:{root}", "val")
    (root / "annotations" / "train2017" / "000002.png").write_bytes(b"?")
    with pytest.raises(DataError, match=r"000002.png cannot be decoded"):
        open_dataset(f"coco-stuff-15:{root}")
    dataset = open_dataset(f"coco-stuff-15:{root}", "test")
    (root / "images" / "val2017" / "000005.jpg").unlink()
    with pytest.raises(DataError, match=r"000005.jpg: no such file"):
        dataset[0]
    for path in (root / "annotations" / "val2017").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"val2017 holds no PNG files. Get train2017.zip"):
        open_dataset(f"coco-persons:{root}", "test")
