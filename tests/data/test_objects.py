"""Sets of one object on its background, and CIFAR-10, by their archives' layouts."""

import io
import os
import pickle
import sys
import types
from itertools import chain
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fastseg.cli import main
from fastseg.data import DataError, open_dataset


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path, **options)


def picture(height=10, width=12, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def keys(spec, split="all"):
    dataset = open_dataset(spec, split)
    return [dataset[i].key for i in range(len(dataset))]


# --- CUB-200-2011 -------------------------------------------------------------------------------


@pytest.fixture
def cub(tmp_path):
    lines = []
    for number in range(1, 41):
        name = f"{number % 3:03d}.Bird/Bird_{number:04d}"
        save(tmp_path / "images" / f"{name}.jpg", picture(seed=number))
        mask = np.zeros((10, 12))
        mask[2:5], mask[5] = 204, 51  # as many of five annotators as say bird
        save(tmp_path / "segmentations" / f"{name}.png", mask)
        lines.append(f"{number} {name}.jpg\n")
    (tmp_path / "images.txt").write_text("".join(lines))
    return tmp_path


def test_cub(cub):
    dataset: Any = open_dataset(f"cub:{cub}", "all")
    assert (len(dataset), dataset.classes) == (40, ("background", "bird"))
    assert dataset[0].key == "001.Bird/Bird_0001"
    assert dataset[0].labels[:, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    parts = [keys(f"cub:{cub}", split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [34, 3, 3]
    assert sorted(chain(*parts)) == sorted(keys(f"cub:{cub}"))


def test_cub_as_others_split_it(cub):
    split = cub / "train_val_test_split.txt"
    split.write_text("".join(f"{n} {n % 3}\n" for n in range(1, 41)))
    assert keys(f"cub:{cub}", "test")[:2] == ["002.Bird/Bird_0002", "002.Bird/Bird_0005"]
    split.write_text("1 0\n2 7\n")
    with pytest.raises(DataError, match=r"must have lines NUMBER 0\|1\|2, got '2 7'"):
        open_dataset(f"cub:{cub}")
    split.write_text("1 0\n")
    with pytest.raises(DataError, match=r"split.txt does not have picture 10"):
        open_dataset(f"cub:{cub}")


# --- Flowers-102 --------------------------------------------------------------------------------


@pytest.fixture
def flowers(tmp_path):
    for number in range(1, 7):
        save(tmp_path / "jpg" / f"image_{number:05d}.jpg", picture(64, 48, number))
        cut_out = np.full((64, 48, 3), (0, 0, 254))
        cut_out[16:48] = picture(32, 48, number) // 2 + 100
        save(tmp_path / "segmim" / f"segmim_{number:05d}.jpg", cut_out, quality=90)
    parts = {"trnid": [[2, 5]], "valid": [[1]], "tstid": [[6, 4, 3]]}
    savemat(tmp_path / "setid.mat", {k: np.array(v, np.uint16) for k, v in parts.items()})
    return tmp_path


def test_flowers(flowers):
    assert keys(f"flowers:{flowers}", "train") == ["image_00003", "image_00004", "image_00006"]
    assert keys(f"flowers:{flowers}", "val") == ["image_00001"]
    assert keys(f"flowers:{flowers}", "test") == ["image_00002", "image_00005"]
    dataset: Any = open_dataset(f"flowers:{flowers}", "all")
    sample = dataset[0]
    truth = np.zeros((64, 48), int)
    truth[16:48] = 1
    assert (sample.labels == truth).mean() > 0.97  # JPEG smears the edge
    assert (sample.labels[24:40] == 1).all()
    assert (sample.labels[:8] == 0).all()


def test_malformed_flowers(flowers):
    savemat(flowers / "setid.mat", {"trnid": [[1]]})
    with pytest.raises(DataError, match=r"setid.mat does not have tstid, valid"):
        open_dataset(f"flowers:{flowers}")
    (flowers / "setid.mat").write_bytes(b"?")
    with pytest.raises(DataError, match=r"setid.mat cannot be decoded"):
        open_dataset(f"flowers:{flowers}")


# --- LSUN Car -----------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    """data.mdb as LSUN has it: pictures in WebP by the hash of their address."""
    lmdb = pytest.importorskip("lmdb")
    environment = lmdb.open(str(tmp_path / "car"), map_size=2**24)
    with environment, environment.begin(write=True) as transaction:
        for number in range(9):
            content = io.BytesIO()
            Image.fromarray(picture(seed=number)).save(content, "WEBP", lossless=True)
            transaction.put(f"{number:040x}".encode(), content.getvalue())
    return tmp_path / "car"


def test_lsun_car(database, tmp_path, capsys):
    root = tmp_path / "root"
    command = ["data", "lsun-car", str(database), str(root), "--count", "7"]
    assert main(command) == 0
    assert f"7 pictures are in {root / 'images'}" in capsys.readouterr().err
    dataset = open_dataset(f"lsun-car:{root}")
    assert [dataset[i].key for i in range(len(dataset))] == [f"{n:040x}" for n in range(7)]
    assert all((dataset[n].image == picture(seed=n)).all() for n in range(7))
    assert (dataset.classes, dataset[0].labels) == ((), None)
    with pytest.raises(DataError, match=r"has no masks of its pictures. Get objects/car.zip"):
        open_dataset(f"lsun-car:{root}", "test")


def test_lsun_car_with_masks(database, tmp_path, monkeypatch):
    main(["data", "lsun-car", str(database), str(tmp_path)])
    for number in range(0, 9, 2):
        save(tmp_path / "masks" / f"{number:040x}.png", np.eye(10, 12) * 255)
    monkeypatch.setattr("fastseg.data.lsun_car.TEST", 2)
    test, train = (keys(f"lsun-car:{tmp_path}", split) for split in ("test", "train"))
    assert (len(test), len(train)) == (2, 7)
    assert sorted(test + train) == keys(f"lsun-car:{tmp_path}")
    dataset: Any = open_dataset(f"lsun-car:{tmp_path}", "test")
    assert (dataset.classes, dataset[0].labels.sum()) == (("background", "car"), 10)


def test_what_is_done_is_left(database, tmp_path):
    command = ["data", "lsun-car", str(database), str(tmp_path), "--count", "2"]
    main(command)
    (path, _) = sorted((tmp_path / "images").iterdir())
    path.write_bytes(b"kept")
    main(command)
    assert path.read_bytes() == b"kept"


def test_no_database(tmp_path, monkeypatch, capsys):
    assert main(["data", "lsun-car", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "is no LMDB" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert main(["data", "lsun-car", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "`pip install lmdb` first" in capsys.readouterr().err


# --- CIFAR-10 -----------------------------------------------------------------------------------


@pytest.fixture
def cifar(tmp_path):
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (2, 3072), np.uint8)
        batch = {
            b"batch_label": name.encode(), b"labels": [3, 9], b"data": pixels,
            b"filenames": [b"tabby_cat_s_1.png", b"truck_s_2.png"],
        }  # fmt: skip
        (tmp_path / name).write_bytes(pickle.dumps(batch, 2))
    return tmp_path


def test_cifar(cifar):
    assert len(open_dataset(f"cifar10:{cifar}", "all")) == 12
    assert keys(f"cifar10:{cifar}", "test") == ["cat/tabby_cat_s_1", "truck/truck_s_2"]
    dataset = open_dataset(f"cifar10:{cifar}")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3072), np.uint8)
    assert len(dataset) == 10
    assert (dataset[2].image == pixels[0].reshape(3, 32, 32).transpose(1, 2, 0)).all()
    assert (dataset.classes, dataset[0].labels) == ((), None)


def test_pickles_make_arrays_and_nothing_else(cifar):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch evil",)

    for evil in (Evil(), types.SimpleNamespace):
        (cifar / "test_batch").write_bytes(pickle.dumps({b"data": evil}))
        with pytest.raises(DataError, match=r"test_batch is no batch of CIFAR-10: it asks for "):
            open_dataset(f"cifar10:{cifar}", "test")


def test_malformed_cifar(cifar):
    (cifar / "test_batch").write_bytes(pickle.dumps({b"data": np.zeros((1, 9), np.uint8),
        b"labels": [0], b"filenames": [b"x.png"]}))  # fmt: skip
    with pytest.raises(DataError, match=r"must hold uint8 \(1, 3072\), got uint8 \(1, 9\)"):
        open_dataset(f"cifar10:{cifar}", "test")


# --- all of them --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cub", r"images.txt does not exist. Get CUB_200_2011.tgz and segmentations.tgz"),
        ("flowers", r"setid.mat does not exist. Get 102flowers.tgz"),
        ("lsun-car", r"images does not exist. Get objects/car.zip"),
        ("cifar10", r"data_batch_1 does not exist. Get cifar-10-python.tar.gz"),
    ],
)
def test_missing_sets_say_where_to_get_them(tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        open_dataset(f"{name}:{tmp_path}")


@pytest.mark.parametrize("name", ["lsun-car", "cifar10"])
def test_splits_that_there_are_not(tmp_path, name):
    with pytest.raises(DataError, match=rf"the splits of {name} are train, test, all, got 'val'"):
        open_dataset(f"{name}:{tmp_path}", "val")


def test_empty_lsun_car(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"images holds no pictures. Get objects/car.zip"):
        open_dataset(f"lsun-car:{tmp_path}")
