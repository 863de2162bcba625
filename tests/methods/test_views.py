"""Second views: what each does, and that a sample's is its own."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg.methods import views

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

SEEDS = torch.tensor([3, 2**40 + 7, -5, 0, 3])
IDENTITY = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])


def pictures(*shape, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def every_view(images, seeds):
    affine = views.random_affine(seeds, images.shape[2:])
    return {
        "uniform": views.uniform(seeds, 3, 1),
        "gaussian": views.gaussian(seeds, images),
        "affine": affine,
        "warp": views.warp(images, affine),
        "flip": views.flip(images, seeds),
        "quarter_turn": views.quarter_turn(images[..., :10, :], seeds),
        "jitter": views.jitter(images, seeds),
    }


def test_a_sample_has_the_same_views_in_any_batch():
    images = pictures(5, 3, 12, 10)
    whole = every_view(images, SEEDS)
    for rows in (slice(1, 2), slice(2, 5)):
        for name, views_of_part in every_view(images[rows], SEEDS[rows]).items():
            assert torch.allclose(views_of_part, whole[name][rows], atol=1e-6), name
    for name in ("uniform", "gaussian", "affine"):
        drawn = whole[name]
        assert torch.equal(drawn[0], drawn[4]), name  # of one seed
        assert len(drawn.flatten(1).unique(dim=0)) == 4, name


def test_streams_differ():
    draws = [views.uniform(SEEDS[:1], 4, stream) for stream in range(6)]
    assert len(torch.cat(draws).unique(dim=0)) == 6


def test_draws_have_their_distributions():
    seeds = torch.arange(4000)
    u = views.uniform(seeds, 2, 1)
    assert u.min() >= -1
    assert u.max() < 1
    assert u.mean(0).abs().max() < 0.05
    assert torch.corrcoef(u.T)[0, 1].abs() < 0.05
    # Neighbouring seeds have nothing to do with each other.
    assert torch.corrcoef(torch.stack((u[1:, 0], u[:-1, 0])))[0, 1].abs() < 0.05
    noise = views.gaussian(seeds[:40], torch.empty(40, 3, 8, 8, dtype=torch.float64))
    assert noise.dtype == torch.float64
    assert noise.mean().abs() < 0.05
    assert noise.std() == pytest.approx(1, abs=0.05)


# --- Geometry ----------------------------------------------------------------------------------


def test_no_affine_is_the_identity():
    affine = views.random_affine(SEEDS, (8, 6), 0, 0, 0, 0)
    assert torch.allclose(affine, IDENTITY.expand(5, -1, -1), atol=1e-7)
    images, labels = pictures(1, 2, 9, 7), torch.arange(63).view(1, 9, 7) - 1
    assert torch.allclose(views.warp(images, IDENTITY), images, atol=1e-6)
    assert torch.equal(views.warp_labels(labels, IDENTITY), labels)


def test_affine_by_hand():
    """A shift of one pixel, and a quarter turn of a picture that is not square."""
    shift = IDENTITY.clone()
    shift[0, 0, 2] = 2 / 4  # one of four pixels
    labels = torch.tensor([[[0, 1, 2, 3], [4, 5, 6, 7]]], dtype=torch.int32)
    moved = views.warp_labels(labels, shift)
    assert moved.tolist() == [[[1, 2, 3, -1], [5, 6, 7, -1]]]
    assert moved.dtype == torch.int32
    image = labels[:, None].float()
    assert views.warp(image, shift)[0, 0].tolist() == [[1, 2, 3, 3], [5, 6, 7, 7]]  # mirrored

    turn = torch.tensor([[[0.0, -0.5, 0], [2, 0, 0]]])  # 90° in pixels: H/W = 1/2
    middle = torch.tensor([[[9, 0, 1, 9], [9, 2, 3, 9]]])
    assert views.warp_labels(middle, turn)[0, :, 1:3].tolist() == [[1, 3], [0, 2]]


@given(st.integers(0, 2**40), st.integers(2, 300), st.integers(2, 300))
def test_affine_maps_stay_within_their_limits(seed, height, width):
    seeds = torch.tensor([seed])
    affine = views.random_affine(seeds, (height, width), 0.5, 0.2, 30, 0)[0].double()
    size = torch.tensor([width, height], dtype=torch.float64)
    pixels = affine[:, :2] * size[:, None] / size[None]  # from the grid's units to pixels
    zoom = pixels.det().sqrt().item()
    assert 1 / 1.5 - 1e-5 <= zoom <= 1.5 + 1e-5
    assert torch.allclose(pixels @ pixels.T, zoom**2 * torch.eye(2).double(), atol=1e-4)
    assert abs(math.degrees(math.atan2(pixels[1, 0], pixels[0, 0]))) <= 30 + 1e-3
    assert affine[:, 2].abs().max() <= 0.4 + 1e-6
    slanted = views.random_affine(seeds, (height, width), 0, 0, 0, 20)[0].double()
    pixels = slanted[:, :2] * size[:, None] / size[None]
    assert torch.allclose(pixels.diagonal(), torch.ones(2).double(), atol=1e-6)
    assert pixels[1, 0] == 0
    assert abs(pixels[0, 1]) <= math.tan(math.radians(20)) + 1e-6


def test_labels_follow_the_picture():
    """Where a picture is its labels in blocks, both land alike away from the blocks' edges."""
    blocks = torch.arange(12).view(1, 3, 4).repeat_interleave(16, 1).repeat_interleave(16, 2)
    affine = views.random_affine(torch.tensor([5]), (48, 64), 0.2, 0.1, 20, 10)
    moved = views.warp_labels(blocks, affine)
    image = views.warp(blocks[:, None].double(), affine)[:, 0]
    inside = (moved >= 0) & (image == image.round())
    assert inside.sum() > 1000
    assert torch.equal(moved[inside].double(), image[inside])
    assert (moved == -1).any()
    assert torch.equal(
        views.warp_labels(torch.full_like(blocks, -1), affine).unique(), -torch.ones(1).long()
    )


def test_large_labels_keep_their_values():
    labels = torch.full((1, 4, 4), 2**31 - 2, dtype=torch.int32)
    assert torch.equal(views.warp_labels(labels, IDENTITY), labels)


def test_flip_mirrors_some_samples_and_again_undoes_it():
    x, seeds = pictures(40, 2, 3, 5), torch.arange(40)
    mirrored = views.flip(x, seeds)
    same = (mirrored == x).flatten(1).all(1)
    assert 10 < same.sum() < 30
    assert torch.equal(mirrored[~same], x[~same].flip(-1))
    assert torch.equal(views.flip(mirrored, seeds), x)
    assert torch.equal(views.flip(x, seeds, 0), x)
    assert torch.equal(views.flip(x, seeds, 1), x.flip(-1))


def test_quarter_turns_are_of_all_kinds_and_undone():
    x, seeds = pictures(40, 2, 5, 5), torch.arange(40)
    turned = views.quarter_turn(x, seeds)
    counts = []
    for quarters in range(4):
        same = (turned == torch.rot90(x, quarters, (-2, -1))).flatten(1).all(1)
        counts.append(int(same.sum()))
    assert sum(counts) == 40
    assert min(counts) > 3
    assert torch.equal(views.quarter_turn(turned, seeds, back=True), x)
    valid = x[:, 0] > 0.5
    assert torch.equal(views.quarter_turn(valid, seeds), views.quarter_turn(x, seeds)[:, 0] > 0.5)


# --- Colour ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jitter_of_nothing_changes_nothing(channels):
    images = pictures(5, channels, 6, 4)
    assert torch.allclose(views.jitter(images, SEEDS, 0, 0, 0, 0), images, atol=1e-6)
    other = views.jitter(images, SEEDS)
    assert 0 <= other.min()
    assert other.max() <= 1
    assert (other[:, :3] - images[:, :3]).abs().amax((1, 2, 3)).min() > 0
    assert torch.equal(other[:, 3:], images[:, 3:])  # infrared, say


def test_each_part_of_the_jitter_by_hand():
    images = pictures(1, 3, 6, 4, dtype=torch.float64) / 4 + 0.35  # far from being cut
    seeds = torch.tensor([9])
    share = views.uniform(seeds, 4, views.JITTER)[0].double()
    grey = (images * torch.tensor(views.GREY).double().view(1, 3, 1, 1)).sum(1, keepdim=True)
    bright = views.jitter(images, seeds, 0.2, 0, 0, 0)
    assert torch.allclose(bright, images * (1 + 0.2 * share[0]))
    contrast = views.jitter(images, seeds, 0, 0.2, 0, 0)
    middle = grey.mean()
    assert torch.allclose(contrast, middle + (images - middle) * (1 + 0.2 * share[1]))
    saturated = views.jitter(images, seeds, 0, 0, 0.2, 0)
    assert torch.allclose(saturated, grey + (images - grey) * (1 + 0.2 * share[2]), atol=1e-7)
    # A hue turns about the grey axis: mean and distance from grey stay.
    turned = views.jitter(images, seeds, 0, 0, 0, 0.125)
    mean, mean_of_turned = images.mean(1), turned.mean(1)
    assert torch.allclose(mean_of_turned, mean)
    distance = (images - mean[:, None]).norm(dim=1)
    assert torch.allclose((turned - mean[:, None]).norm(dim=1), distance)
    cosine = ((images - mean[:, None]) * (turned - mean[:, None])).sum(1) / distance**2
    assert torch.allclose(cosine, (2 * math.pi * 0.125 * share[3]).cos().expand_as(cosine))
    shade = torch.full((1, 3, 2, 2), 0.4)
    assert torch.allclose(views.jitter(shade, seeds, 0, 0.4, 0.4, 0.5), shade)


def test_sobel_by_hand():
    ramp = torch.arange(5.0).expand(1, 3, 4, 5)
    x, y = views.sobel(ramp)[0]
    assert (x[:, 1:-1] == 2).all()
    assert (y == 0).all()
    x, y = views.sobel(ramp.mT)[0]
    assert (x == 0).all()
    assert (y[1:-1] == 2).all()
    coloured = torch.zeros(1, 4, 5, 5)
    coloured[:, 3] = pictures(5, 5)
    assert (views.sobel(coloured) == 0).all()  # of the first three channels
