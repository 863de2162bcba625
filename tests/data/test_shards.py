"""Pictures in tar files: `shards:PATTERN`."""

import io
import os
import tarfile
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from fastseg.data import DataError, Geometry, batches, open_dataset
from fastseg.data.shards import BUFFER, Shards

LABELS = np.array([[0, 1], [255, 1]], np.uint8)


def png(values):
    file = io.BytesIO()
    Image.fromarray(np.asarray(values, np.uint8)).save(file, "PNG")
    return file.getvalue()


def picture(number):
    return np.full((2, 2, 3), number, np.uint8)


def pack(path, members):
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def root(tmp_path):
    """Three shards of 4 pictures, numbered on; even ones have truth."""
    for shard in range(3):
        members = {}
        for number in range(4 * shard, 4 * shard + 4):
            members[f"part/{number:04d}.png"] = png(picture(number))
            members[f"part/{number:04d}.json"] = b"{}"
            if number % 2 == 0:
                members[f"part/{number:04d}.seg.png"] = png(LABELS)
        pack(tmp_path / f"train-{shard:03d}.tar", members)
    return tmp_path


def test_every_member_in_order(root):
    dataset: Any = open_dataset(f"shards:{root}/train-{{000..002}}.tar?classes=2")
    assert (len(dataset), dataset.classes, dataset.channels) == (12, ("0", "1"), 3)
    for number in (11, 0, 5, 4, 3):
        sample = dataset[number]
        assert sample.key == f"train-{number // 4:03d}/part/{number:04d}"
        assert (sample.image == picture(number)).all()
        assert (sample.labels is None) == (number % 2 == 1)
    assert dataset[2].labels.tolist() == [[0, 1], [-1, 1]]


def test_truth_is_read_where_there_are_classes(root):
    assert open_dataset(f"shards:{root}/*.tar")[0].labels is None
    assert open_dataset(f"shards:{root}/*.tar?classes=a,b").classes == ("a", "b")


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("train-000.tar", 4),
        ("train-{001..002}.tar", 8),
        ("train-{000..999}.tar", 12),
        ("train-00{0,2}.tar", 8),
        ("{split}-*.tar", 12),
        ("**/*.tar", 12),
        ("{train-000,train-{000..001}}.tar", 8),
    ],
)
def test_patterns(root, pattern, count):
    assert len(open_dataset(f"shards:{root}/{pattern}", "train")) == count


def test_members_are_looked_for_once(root, monkeypatch):
    first: Any = Shards(f"{root}/*.tar", classes="2")
    assert len(list(root.glob(".*.index.npy"))) == 3
    monkeypatch.setattr(tarfile, "open", None)
    again: Any = Shards(f"{root}/*.tar", classes="2")
    assert [s.key for s in map(again.__getitem__, range(12))] == [first[i].key for i in range(12)]
    assert (again[8].labels == first[8].labels).all()
    monkeypatch.undo()
    pack(root / "train-001.tar", {"x.png": png(picture(99))})
    changed = Shards(f"{root}/*.tar")
    assert len(changed) == 9
    assert (changed[4].image == 99).all()


def test_folders_that_cannot_be_written_to(root, monkeypatch):
    def refuse(*arguments):
        raise PermissionError("read only")

    monkeypatch.setattr("fastseg.data.shards.write", refuse)
    assert len(Shards(f"{root}/*.tar")) == 12
    assert not list(root.glob(".*.npy"))


def test_broken_indices_are_made_anew(root):
    Shards(f"{root}/*.tar")
    for index, content in zip(sorted(root.glob(".*.npy")), (b"", b"x", None), strict=True):
        index.write_bytes(index.read_bytes()[:-9] if content is None else content)
    assert len(Shards(f"{root}/*.tar")) == 12


def test_epochs_move_through_each_shard(root, monkeypatch):
    for shard in range(6):
        pack(root / "many" / f"{shard}.tar", {f"{i}.png": png(picture(i)) for i in range(30)})
    monkeypatch.setattr("fastseg.data.shards.BUFFER", 8)
    dataset = Shards(f"{root}/many/*.tar")
    orders = [dataset.order(np.random.default_rng(seed)) for seed in range(3)]
    for order in orders:
        assert sorted(order) == list(range(180))
        shards = [int(np.median(part)) // 30 for part in order.reshape(6, 30)]
        assert sorted(shards) == list(range(6))
        sequence = np.concatenate([np.arange(30 * s, 30 * s + 30) for s in shards])
        place = np.empty(180, int)
        place[sequence] = np.arange(180)
        assert abs(place[order] - np.arange(180)).max() <= 8
        assert (order != sequence).mean() > 0.5
    assert (orders[0] != orders[1]).any()
    assert BUFFER > 1000


def test_batches(root):
    dataset = open_dataset(f"shards:{root}/*.tar?classes=2")
    options: dict[str, Any] = {"seed": 0, "epoch": 1, "labels": True}
    one, other = (list(batches(dataset, Geometry(2), 4, workers=n, **options)) for n in (0, 2))
    assert len(one) == 3
    for left, right in zip(one, other, strict=True):
        assert left.keys == right.keys
        assert torch.equal(left.images, right.images)
    assert sorted(key for batch in one for key in batch.keys) == [dataset[i].key for i in range(12)]


def test_four_channels(tmp_path):
    planes = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 4), np.uint8)
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, planes[1], photometric="rgb", extrasamples=["unspecified"])
    pack(tmp_path / "x.tar", {"a.png": png(planes[0]), "b.tif": tiff.getvalue()})
    dataset = open_dataset(f"shards:{tmp_path}/x.tar?channels=4")
    assert (dataset[0].image == planes[0]).all()
    assert (dataset[1].image == planes[1]).all()


def test_bad_shards(root):
    with pytest.raises(DataError, match=r"there is no file .*none.tar. A shard is a tar file"):
        open_dataset(f"shards:{root}/none.tar")
    (root / "bad.tar").write_bytes(b"no tar file")
    with pytest.raises(DataError, match=r"bad.tar is no tar file"):
        open_dataset(f"shards:{root}/bad.tar")
    pack(root / "empty.tar", {"x.txt": b""})
    with pytest.raises(DataError, match=r"empty.tar holds no pictures"):
        open_dataset(f"shards:{root}/empty.tar")
    pack(root / "two.tar", {"x.png": png(LABELS), "x.bmp": b""})
    with pytest.raises(DataError, match=r"two.tar has two pictures x.bmp"):
        open_dataset(f"shards:{root}/two.tar")
    pack(root / "odd.tar", {"x.png": b"?", "y.png": png(picture(0)), "y.seg.png": png(LABELS + 2)})
    dataset = open_dataset(f"shards:{root}/odd.tar?classes=2")
    with pytest.raises(DataError, match=r"x in .*odd.tar: not a picture that Pillow can read"):
        dataset[0]
    with pytest.raises(DataError, match=r"y in .*odd.tar must hold 0 … 1, .* got 2 at row 0"):
        dataset[1]
    os.truncate(root / "odd.tar", 512)
    with pytest.raises(DataError, match=r"y in .*odd.tar: the tar file is cut short"):
        dataset[1]
