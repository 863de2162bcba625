"""The loaders on real pictures, where they are: what a miniature of noise would not show."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fastseg
from fastseg.cli import main
from fastseg.data import batches, open_dataset
from fastseg.data.coco_stuff import COARSE
from fastseg.data.potsdam import COLOURS

DATA = Path(__file__).parents[3] / "shared" / "data"
SLIC: list[dict[str, Any]] = [{"n_segments": 30, "compactness": 20.0}]


@pytest.fixture(autouse=True)
def _there():
    if not DATA.is_dir():
        pytest.skip("there are no real pictures beside the project")


@pytest.mark.parametrize(
    ("spec", "count", "classes", "channels"),
    [
        ("flowers17?labels=masks_fg", 423, 2, 3),
        ("ecssd", 500, 2, 3),
        ("dronedeploy", 130, 6, 3),
        ("msrc_v2?classes=23", 296, 23, 3),
        ("naip_rgbir?channels=4", 8, 5, 4),
        ("coco_stuff_mini/train2017?labels=masks_stuff15", 70, 15, 3),
        ("bsds500/val", 100, 0, 3),
        ("fruits/sky", 39, 0, 3),
    ],
)
def test_folders(spec, count, classes, channels, tmp_path):
    dataset = open_dataset(f"folder:{DATA}/{spec}")
    assert (len(dataset), len(dataset.classes), dataset.channels) == (count, classes, channels)
    some = open_dataset(f"folder:{DATA}/{spec}{'&' if '?' in spec else '?'}limit=6")
    (one, other) = (
        next(batches(some, some.geometry, 6, seed=0, epoch=0, workers=workers, train=False,
                     superpixels=SLIC, cache=tmp_path))
        for workers in (0, 1)
    )  # fmt: skip
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.superpixels[0], other.superpixels[0])
    for i, (regions, image) in enumerate(zip(one.superpixels[0], one.images, strict=True)):
        pixels = torch.from_numpy(np.array(some[i].image)).movedim(2, 0)
        height, width = pixels.shape[1:]
        assert torch.equal(image[:, :height, :width], pixels / 255)
        assert torch.equal(regions[:height, :width], fastseg.slic(pixels[None], **SLIC[0])[0])
        assert 10 < regions.max() < 60


def archive_of(root, masks, fine, count):
    """Miniature pictures of COCO, enlarged into the archive's layout; their small labels by name.

    `fine` has the archive's label for each of `masks`.
    """
    mini = DATA / "coco_stuff_mini" / "train2017"
    for folder in ("images", "annotations"):
        for split in ("train2017", "val2017"):
            (root / folder / split).mkdir(parents=True)
    table = np.full(256, 255, np.uint8)
    table[: len(fine)] = fine
    found = {}
    for i, path in enumerate(sorted((mini / masks).glob("*.png"))[:count]):
        with Image.open(path) as mask, Image.open(mini / "images" / f"{path.stem}.jpg") as picture:
            labels = np.asarray(mask)
            split = "val2017" if i % 3 == 2 else "train2017"
            found[f"{split}/{path.stem}"] = labels
            size = (picture.width * 3 // 2, picture.height * 3 // 2)
            large = Image.fromarray(table[labels]).resize(size, Image.Resampling.NEAREST)
            large.save(root / "annotations" / split / path.name)
            picture.resize(size).save(root / "images" / split / f"{path.stem}.jpg")
    return found


def test_coco_by_its_archive(tmp_path):
    names = {"sky": 156, "ground": 124, "plant": 93}
    masks = archive_of(tmp_path, "masks_stuff3", list(names.values()), 30)
    share = {name: (labels < 3).mean() for name, labels in masks.items()}
    dataset: Any = open_dataset(f"coco-stuff-3:{tmp_path}", "all")
    found = [dataset[i] for i in range(len(dataset))]
    keys = {sample.key for sample in found}
    assert keys >= {name for name, part in share.items() if part > 0.76}
    assert not keys & {name for name, part in share.items() if part < 0.74}
    assert set(names.values()) < {label for group in COARSE.values() for label in group}
    # Skies are brighter than plants, so labels lie where they belong.
    bright = [
        np.concatenate([s.image[s.labels == k].mean(-1) for s in found]).mean() for k in range(2)
    ]
    assert bright[0] > bright[1] + 20


def test_persons_from_the_archive_to_label_maps(tmp_path, capsys):
    """COCO-Persons end to end: chosen, learnt from, scored, predicted."""
    masks = archive_of(tmp_path / "coco", "masks_person", [1, 0], 70)  # bicycle and person
    spec, run = f"coco-persons:{tmp_path}/coco", tmp_path / "run"
    chosen = {}
    for split in ("train", "test"):
        dataset: Any = open_dataset(spec, split)
        assert dataset.classes == ("other", "person")
        for i in range(len(dataset)):
            key, _, labels = dataset[i]
            chosen[key] = (labels == 1).mean()
            assert chosen[key] == pytest.approx((masks[key] == 1).mean(), abs=0.01)
            assert (labels < 0).mean() == pytest.approx((masks[key] > 1).mean(), abs=0.01)
    assert len(chosen) > 8
    assert min(chosen.values()) >= 0.1
    assert all((labels == 1).mean() < 0.11 for key, labels in masks.items() if key not in chosen)

    options = ["--width", "4", "--features", "16", "--batch-size", "4", "--epochs", "1"]
    options += ["--no-tensorboard", "--device", "cpu"]
    assert main(["train", "infoseg", "--data", spec, "--out", str(run), *options]) == 0
    assert main(["eval", str(run)]) == 0
    assert "bilinear" in capsys.readouterr().out
    pictures = str(tmp_path / "coco" / "images" / "val2017")
    out = tmp_path / "out"
    assert main(["segment", pictures, "-o", str(out), "--model", str(run)]) == 0
    names = {path.stem for path in (out / "labels").glob("*.png")}
    assert names == {key.split("/")[1] for key in masks if key.startswith("val")}


def test_potsdam_from_a_genuine_picture(tmp_path):
    """A tile of the archive's pictures with its labels in the archive's colours."""
    name, raw = "potsdam_2_10_0_0_512_512.png", tmp_path / "raw"
    raw.mkdir()
    with Image.open(DATA / "isprs_samples" / "images" / name) as image:
        pixels = np.asarray(image)[:400, :400]
    with Image.open(DATA / "isprs_samples" / "masks" / name) as image:
        labels = np.asarray(image)[:400, :400]
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(COLOURS)] = list(COLOURS.values())
    infrared = np.dstack([pixels, 255 - pixels[..., :1]])
    Image.fromarray(infrared).save(raw / "top_potsdam_2_10_RGBIR.tif")
    Image.fromarray(palette[labels]).save(raw / "top_potsdam_2_10_label.tif")
    assert main(["data", "potsdam", str(raw), str(tmp_path / "out")]) == 0
    sample: Any = open_dataset(f"potsdam-6:{tmp_path}/out", "all")[0]
    expected = np.where(labels == 255, -1, labels.astype(int))[::2, ::2]
    assert (sample.labels == expected).all()
    assert abs(sample.image[..., :3].astype(int) - pixels[::2, ::2]).mean() < 8
    assert (abs(sample.image[..., 3].astype(int) + sample.image[..., 0] - 255) <= 1).all()
