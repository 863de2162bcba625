"""Pictures of one's own: `folder:DIR`, and what all specs have in common."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastseg.data import DataError, Geometry, batches, open_dataset

LABELS = np.array([[0, 1, 2], [2, 255, 1]], np.uint8)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def picture(height=2, width=3, channels=3, seed=0):
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def root(tmp_path):
    """images/ with a, b and sub/c, of which masks/ has a and sub/c."""
    for seed, name in enumerate(("a", "b", "sub/c")):
        save(tmp_path / "images" / f"{name}.png", picture(seed=seed))
    for name in ("a", "sub/c"):
        save(tmp_path / "masks" / f"{name}.png", LABELS)
    return tmp_path


def test_pictures_and_their_truth(root):
    dataset: Any = open_dataset(f"folder:{root}")
    assert [dataset[i].key for i in range(len(dataset))] == ["a", "b", "sub/c"]
    assert (dataset[0].image == picture()).all()
    assert dataset[2].labels.tolist() == [[0, 1, 2], [2, -1, 1]]
    assert dataset[2].labels.dtype == np.int16
    assert dataset[1].labels is None
    assert (dataset.classes, dataset.channels) == (("0", "1", "2"), 3)
    assert dataset.geometry == Geometry()


def test_pictures_alone(tmp_path):
    save(tmp_path / "x" / "p.jpg", picture())
    save(tmp_path / "q.png", picture(4, 5))
    dataset = open_dataset(f"folder:{tmp_path}", "test")
    assert [dataset[i].key for i in range(2)] == ["q", "x/p"]
    assert dataset.classes == ()
    assert dataset[0].labels is None


def test_classes_have_names(root):
    assert open_dataset(f"folder:{root}?classes=4").classes == ("0", "1", "2", "3")
    assert open_dataset(f"folder:{root}?classes=x,y,z").classes == ("x", "y", "z")
    (root / "classes.txt").write_text("sky\nlow grass\nsea\n")
    assert open_dataset(f"folder:{root}").classes == ("sky", "low grass", "sea")


def test_other_truth(root, tmp_path):
    save(root / "mine" / "b.png", 255 * (LABELS == 1))
    dataset: Any = open_dataset(f"folder:{root}?labels=mine&values=grey")
    assert dataset.classes == ("background", "foreground")
    assert dataset[1].labels.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert dataset[0].labels is None
    assert open_dataset(f"folder:{root}?labels={root / 'mine'}&values=grey")[1].labels is not None


def test_truth_beside_the_pictures(tmp_path):
    """Is not taken for a picture."""
    save(tmp_path / "a.png", picture())
    save(tmp_path / "sub" / "b.png", picture())
    save(tmp_path / "labels" / "a.png", LABELS)
    dataset: Any = open_dataset(f"folder:{tmp_path}")
    assert [dataset[i].key for i in range(len(dataset))] == ["a", "sub/b"]
    assert dataset[0].labels.max() == 2


def test_splits_are_folders(tmp_path):
    for split, names in {"train": "abc", "test": "da"}.items():
        for name in names:
            save(tmp_path / split / "images" / f"{name}.png", picture())
    save(tmp_path / "test" / "masks" / "a.png", LABELS)
    assert len(open_dataset(f"folder:{tmp_path}", "train")) == 3
    assert open_dataset(f"folder:{tmp_path}", "train").classes == ()
    assert open_dataset(f"folder:{tmp_path}?classes=4", "train").classes == ("0", "1", "2", "3")
    assert open_dataset(f"folder:{tmp_path}", "test").classes == ("0", "1", "2")
    every = open_dataset(f"folder:{tmp_path}", "all")
    keys = [every[i].key for i in range(len(every))]
    assert keys == ["train/a", "train/b", "train/c", "test/a", "test/d"]
    assert [every[i].labels is None for i in range(5)] == [True, True, True, False, True]
    with pytest.raises(DataError, match=r"splits of folder:.* are train, test, all, got 'val'"):
        open_dataset(f"folder:{tmp_path}", "val")


def test_four_channels(root):
    for seed, name in enumerate(("a", "b", "sub/c")):
        save(root / "images" / f"{name}.png", picture(channels=4, seed=seed))
    dataset = open_dataset(f"folder:{root}?channels=4")
    assert (dataset[0].image == picture(channels=4)).all()
    batch = next(batches(dataset, Geometry(), 1, seed=0, epoch=0, train=False))
    assert (batch.images[0] * 255 == np.moveaxis(picture(channels=4), 2, 0)).all()


def test_a_limit_is_random_and_always_the_same(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i:02d}.png", picture())
    keys = [s.key for s in map(open_dataset(f"folder:{tmp_path}?limit=6").__getitem__, range(6))]
    assert keys == sorted(keys) != [f"{i:02d}" for i in range(6)]
    again = open_dataset(f"folder:{tmp_path}?limit=6")
    assert [again[i].key for i in range(len(again))] == keys
    assert len(open_dataset(f"folder:{tmp_path}?limit=99")) == 20


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing:{}", r"must be one of fruits, potsdam-3, .*, got 'nothing'"),
        ("folder", r"folder needs a path: folder:PATH"),
        ("folder:{}/none", r"none is not a folder. A folder has its pictures in images/"),
        ("folder:{}?colour=1", r"options of the data are labels, .*, limit, got 'colour'"),
        ("folder:{}?limit=x", r"limit must be a whole number from 1, got 'x'"),
        ("folder:{}?limit=0", r"limit must be a whole number from 1, got '0'"),
        ("folder:{}?channels=2", r"channels must be 3 or 4, got 2"),
        ("folder:{}?values=colour", r"values must be 'index' or 'grey', got 'colour'"),
        ("folder:{}?labels=none", r"none, the folder of labels, does not exist"),
        ("folder:{}?labels=far", r"no name is that of a picture and its truth: .*z.png, .*a.png"),
    ],
)
def test_bad_specs(root, spec, message):
    save(root / "far" / "z.png", LABELS)
    with pytest.raises(DataError, match=message):
        open_dataset(spec.format(root))


def test_folders_without_pictures(tmp_path):
    with pytest.raises(DataError, match="holds no pictures"):
        open_dataset(f"folder:{tmp_path}")


def test_two_pictures_of_one_name(root):
    save(root / "images" / "a.jpg", picture())
    with pytest.raises(DataError, match=r"two files of one name: .*a.jpg, .*a.png"):
        open_dataset(f"folder:{root}")


def test_masks_of_0_and_255_are_asked_about(root):
    for name in ("a", "sub/c"):
        save(root / "masks" / f"{name}.png", 255 * (LABELS == 1))
    with pytest.raises(DataError, match=r"hold 0 and 255 only, .* say values=grey"):
        open_dataset(f"folder:{root}")


def test_bad_files_are_named(root):
    save(root / "masks" / "a.png", LABELS[:1])
    (root / "masks" / "sub" / "c.png").write_bytes(b"no picture")
    (root / "images" / "b.png").write_bytes(b"no picture")
    dataset = open_dataset(f"folder:{root}?classes=2")
    with pytest.raises(DataError, match=r"a.png must hold 0 … 1, .* got 2 at row 0, column 2"):
        dataset[0]
    with pytest.raises(DataError, match=r"b.png: not a picture that Pillow can read"):
        dataset[1]
    with pytest.raises(DataError, match=r"c.png cannot be decoded"):
        dataset[2]
    with pytest.raises(DataError, match=r"a.png is 3x1, its picture 3x2"):
        open_dataset(f"folder:{root}?classes=3")[0]
    save(root / "masks" / "a.png", picture())
    with pytest.raises(DataError, match=r"a.png must have one channel of 8 bits, got uint8 \(2, 3"):
        dataset[0]
    with pytest.raises(DataError, match=r"a.png must have 4 channels of 8 bits, got uint8 \(2, 3"):
        open_dataset(f"folder:{root}?channels=4&classes=3")[0]
