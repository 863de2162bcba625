"""Superpixels kept in files: `fastseg.data.SuperpixelCache`."""

import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastseg
from fastseg.data import Geometry, SuperpixelCache, batches, open_dataset
from fastseg.data import superpixels as module
from fastseg.data.superpixels import dense

PARAMETERS: dict[str, Any] = {"n_segments": 12, "compactness": 5.0}


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


@pytest.fixture
def calls(monkeypatch):
    """How often superpixels have been computed."""
    made = []

    def counted(*arguments, **options):
        made.append(options)
        return fastseg.slic(*arguments, **options)

    monkeypatch.setattr(module, "slic", counted)
    return made


def files(folder):
    return sorted(Path(folder).rglob("*.*"))


def test_holds_what_the_operator_gives(tmp_path, image):
    expected = fastseg.slic(torch.from_numpy(image).permute(2, 0, 1)[None], **PARAMETERS)[0].numpy()
    for cache in (SuperpixelCache(None), *[SuperpixelCache(tmp_path)] * 2):
        labels = cache(image, PARAMETERS)
        assert labels.dtype == np.int16
        assert (labels == expected).all()


def test_second_time_reads_a_map_of_memory(tmp_path, image, calls):
    SuperpixelCache(tmp_path)(image, PARAMETERS)
    again = SuperpixelCache(tmp_path)(np.asfortranarray(image), dict(reversed(PARAMETERS.items())))
    assert len(calls) == 1
    assert isinstance(again, np.memmap)
    assert len(files(tmp_path)) == 1


def test_pixels_shape_and_parameters_tell_apart(tmp_path, image, calls):
    cache, other = SuperpixelCache(tmp_path), image.copy()
    other[0, 0, 0] ^= 1
    cache(image, PARAMETERS)
    cache(other, PARAMETERS)
    cache(image.reshape(40, 30, 3), PARAMETERS)
    cache(image, {**PARAMETERS, "compactness": 6.0})
    assert len(calls) == len(files(tmp_path)) == 4


def test_a_second_epoch_reads(tmp_path, calls):
    dataset = open_dataset("fruits?limit=12")

    def epoch(number):
        options = {"superpixels": [PARAMETERS], "cache": tmp_path, "workers": 2}
        return list(batches(dataset, Geometry((40, 48)), 4, seed=0, epoch=number, **options))

    first = epoch(0)
    assert len(calls) == len(files(tmp_path)) == 12
    for batch in epoch(1):
        assert (batch.superpixels[0].amax((1, 2)) > 2).all()
    assert len(calls) == 12
    assert all(torch.equal(a.superpixels[0], b.superpixels[0])
               for a, b in zip(first, epoch(0), strict=True))  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array", "cut", "other"])
def test_broken_files_are_made_anew(tmp_path, image, calls, content):
    cache = SuperpixelCache(tmp_path)
    expected = np.array(cache(image, PARAMETERS))
    (path,) = files(tmp_path)
    if content == "other":
        np.save(path, np.zeros((3, 3), np.int16))
    else:
        path.write_bytes(path.read_bytes()[:-7] if content == "cut" else content)
    assert (cache(image, PARAMETERS) == expected).all()
    assert len(calls) == 2
    assert (cache(image, PARAMETERS) == expected).all()
    assert len(calls) == 2
    assert files(tmp_path) == [path]


def _ask(folder):
    cache = SuperpixelCache(folder)
    images = np.random.default_rng(1).integers(0, 256, (20, 16, 16, 3), np.uint8)
    return sum(int(np.array(cache(image, PARAMETERS), np.int64).sum()) for image in images)


def test_processes_share_a_folder(tmp_path):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        other = pool.apply_async(_ask, [tmp_path])
        while not files(tmp_path) and not other.ready():
            time.sleep(0.001)
        sums = {_ask(tmp_path), other.get()}
    assert sums == {_ask(None)}
    assert len(files(tmp_path)) == 20


def test_many_superpixels_have_room(tmp_path):
    image = np.zeros((200, 200, 1), np.uint8)
    options = {"n_segments": 40_000, "enforce_connectivity": False}
    labels = SuperpixelCache(tmp_path)(image, options)
    assert labels.max() >= 2**15
    assert labels.dtype == np.int32
    assert (SuperpixelCache(tmp_path)(image, options) == labels).all()


def test_dense():
    labels = np.array([[7, -1, 3], [3, 9, 7]], np.int16)
    assert dense(labels).tolist() == [[1, -1, 0], [0, 2, 1]]
    assert dense(labels).dtype == np.int32
    assert dense(np.full((2, 2), -1, np.int16)).tolist() == [[-1, -1], [-1, -1]]
    assert dense(np.zeros((0, 3), np.int32)).shape == (0, 3)
