"""GrabCut, and K-means of dense SIFT."""

import dataclasses
import sys

import pytest
import torch

from fastseg.cli import main
from fastseg.methods import SIFT, GrabCut
from tests.methods.samples import batch

pytestmark = pytest.mark.usefixtures("one_thread")


def stripes(count=2, side=64):
    """Lying on the left, standing on the right, equally bright."""
    data = batch(count, (side, side))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    right = x >= side // 2
    pattern = torch.where(right, x // 4 % 2, y // 4 % 2).float()
    images = (0.2 + 0.6 * pattern).expand(count, 3, -1, -1)
    labels = right.long().expand(count, -1, -1)
    return dataclasses.replace(
        data, images=images, labels=labels, valid=torch.ones_like(labels).bool()
    )


def test_grabcut_finds_what_is_unlike_the_border():
    pytest.importorskip("cv2")
    model, data = GrabCut(GrabCut.Config(), 3, 2), batch(3, labels=True)
    data.labels[:, :3] = 0
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[3:-3, 3:-3] = True
    found = model.predict(data)["mask"]
    assert found.dtype == torch.int64
    assert torch.equal(found[:, inside], data.labels[:, inside])
    assert not found[:, ~inside].any()  # for certain
    assert torch.equal(model.predict(data)["mask"], found)
    assert model.clusters == 2
    assert not model.state_dict()


def test_what_grabcut_refuses():
    with pytest.raises(ValueError, match="GrabCut takes colours, `channels` of 3, got 4"):
        GrabCut(GrabCut.Config(), 4, 2)
    with pytest.raises(ValueError, match=r"`margin` must be between 0 and 0.5, got 0.5"):
        GrabCut(GrabCut.Config(margin=0.5), 3, 2)


def test_sift_tells_directions_apart():
    """Which colours do not."""
    pytest.importorskip("cv2")
    model, data = SIFT(SIFT.Config(restarts=3), 3, 2), stripes()
    features = model.features(data)
    assert features.shape == (2, 128, 16, 16)
    assert torch.allclose(features.square().sum(1), torch.ones(2, 16, 16), atol=1e-4)
    model.fit([data])
    found = model.predict(data)["pixel"]
    assert found.shape == data.labels.shape
    away = torch.ones(64, dtype=torch.bool)
    away[16:48] = away[:8] = away[-8:] = False  # where descriptors see one side only
    right = found[:, 16:-16, away] == data.labels[:, 16:-16, away]
    assert max(right.float().mean(), (~right).float().mean()) > 0.95


@pytest.mark.parametrize(("size", "stride", "grid"), [((9, 14), 4, (3, 4)), ((8, 3), 1, (8, 3))])
def test_descriptors_are_on_a_grid(size, stride, grid):
    pytest.importorskip("cv2")
    model = SIFT(SIFT.Config(stride=stride), 3, 2)
    assert model.features(batch(1, size)).shape == (1, 128, *grid)


def test_flat_pictures_have_descriptors_too():
    pytest.importorskip("cv2")
    data = batch()
    flat = dataclasses.replace(data, images=torch.full_like(data.images, 0.5))
    assert SIFT(SIFT.Config(), 3, 2).features(flat).isfinite().all()


def test_without_opencv(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    message = r"this baseline needs OpenCV: pip install 'fastseg\[opencv\]'"
    grabcut, sift = GrabCut(GrabCut.Config(), 3, 2), SIFT(SIFT.Config(), 3, 2)  # which need none
    with pytest.raises(ImportError, match=message):
        grabcut.predict(batch())
    with pytest.raises(ImportError, match=message):
        sift.fit([batch()])
    out = str(tmp_path / "run")
    assert main(["train", "grabcut", "--data", "fruits?limit=2", "--out", out]) == 2
    assert "fastseg: this baseline needs OpenCV: pip install" in capsys.readouterr().err


def test_what_sift_refuses():
    with pytest.raises(ValueError, match="`stride` must be at least 1, got 0"):
        SIFT(SIFT.Config(stride=0), 3, 2)
