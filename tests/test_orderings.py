"""The sixteen orderings, their symmetries, masks and samples."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import orderings
from fastseg.orderings import (
    ALL,
    RASTER,
    ZIGZAG,
    attention_mask,
    opposite,
    permutation,
    ranks,
    sample_pair,
    subset,
    turn,
    turn_back,
)

RASTER_BY_HAND = {
    1: [[0, 1, 2], [3, 4, 5]],
    2: [[1, 3, 5], [0, 2, 4]],
    3: [[5, 4, 3], [2, 1, 0]],
    4: [[4, 2, 0], [5, 3, 1]],
    5: [[2, 1, 0], [5, 4, 3]],
    6: [[0, 2, 4], [1, 3, 5]],
    7: [[3, 4, 5], [0, 1, 2]],
    8: [[5, 3, 1], [4, 2, 0]],
}
ZIGZAG_BY_HAND = {
    9: [[0, 1, 5, 6], [2, 4, 7, 10], [3, 8, 9, 11]],
    10: [[5, 6, 10, 11], [1, 4, 7, 9], [0, 2, 3, 8]],
    11: [[11, 9, 8, 3], [10, 7, 4, 2], [6, 5, 1, 0]],
    12: [[8, 3, 2, 0], [9, 7, 4, 1], [11, 10, 6, 5]],
    13: [[6, 5, 1, 0], [10, 7, 4, 2], [11, 9, 8, 3]],
    14: [[0, 2, 3, 8], [1, 4, 7, 9], [5, 6, 10, 11]],
    15: [[3, 8, 9, 11], [2, 4, 7, 10], [0, 1, 5, 6]],
    16: [[11, 10, 6, 5], [9, 7, 4, 1], [8, 3, 2, 0]],
}
sides = st.integers(1, 7)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- Orders ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", RASTER)
def test_raster_scans_by_hand(ordering):
    assert ranks(2, 3, ordering).tolist() == RASTER_BY_HAND[ordering]


@pytest.mark.parametrize("ordering", ZIGZAG)
def test_zigzags_by_hand(ordering):
    assert ranks(3, 4, ordering).tolist() == ZIGZAG_BY_HAND[ordering]


def test_a_permutation_lists_the_pixels_in_their_order():
    assert permutation(2, 3, 2).tolist() == [3, 0, 4, 1, 5, 2]
    assert permutation(3, 3, 9).tolist() == [0, 1, 3, 6, 4, 2, 5, 7, 8]


@given(sides, sides, st.sampled_from(ALL))
def test_places_and_pixels_are_inverse_to_each_other(height, width, ordering):
    order = permutation(height, width, ordering)
    places = ranks(height, width, ordering)
    assert places.shape == (height, width)
    assert order.dtype == places.dtype == torch.int64
    assert torch.equal(places.flatten()[order], torch.arange(height * width))


@given(sides, sides)
def test_the_eight_of_a_kind_are_all_different_symmetries(height, width):
    height, width = height + 1, width + 2  # smaller ones have fewer
    for kind in (RASTER, ZIGZAG):
        assert len({tuple(permutation(height, width, o).tolist()) for o in kind}) == 8


@given(sides, sides, st.sampled_from(ZIGZAG))
def test_a_zigzag_goes_from_neighbour_to_neighbour(height, width, ordering):
    order = permutation(height, width, ordering)
    steps = torch.stack((order // width, order % width)).diff()
    assert (steps.abs().amax(0) == 1).all()


@given(sides, sides, st.integers(0, 16))
def test_turning_back_undoes_turning(height, width, ordering):
    x = torch.arange(2 * height * width).view(2, height, width)
    turned = turn(x, ordering)
    assert turned.shape[1:] == ((width, height) if ordering and ordering % 2 == 0 else x.shape[1:])
    assert torch.equal(turn_back(turned, ordering), x)


@pytest.mark.parametrize("ordering", ALL)
def test_what_turns_with_the_picture_stays_in_order(ordering):
    """Ordering o of a picture is the first ordering of the picture turned back."""
    x = torch.randn(3, 5, 4, generator=seeded())
    first = turn_back(x, ordering)
    base = 1 if ordering in RASTER else 9
    height, width = first.shape[1:]
    expected = first.flatten(1)[:, permutation(height, width, base)]
    assert torch.equal(x.flatten(1)[:, permutation(5, 4, ordering)], expected)


@given(sides, sides, st.sampled_from(ALL))
def test_the_opposite_starts_where_the_other_ends(height, width, ordering):
    other = opposite(ordering)
    assert opposite(other) == ordering != other
    here, there = ranks(height, width, ordering), ranks(height, width, other)
    last = height * width - 1
    assert torch.equal(there.flip(0, 1), here)
    assert there.flatten()[here.flatten().argmax()] == 0
    if ordering in RASTER or (height + width) % 2 == 0:
        assert torch.equal(here + there, torch.full_like(here, last))


@pytest.mark.parametrize(("height", "width"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_has_an_order(height, width):
    for ordering in ALL:
        assert ranks(height, width, ordering).shape == (height, width)
        assert permutation(height, width, ordering).shape == (0,)
        assert attention_mask(height, width, ordering).shape == (0, 0)


# --- Masks -------------------------------------------------------------------------------------


def test_masks_by_hand():
    """A row a pixel, a column for each that it sees: the first raster scan and its opposite."""
    assert torch.equal(attention_mask(2, 2, 1), torch.ones(4, 4).tril().bool())
    assert torch.equal(attention_mask(2, 2, 3), torch.ones(4, 4).triu().bool())
    column = [[1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1]]  # down, then to the right
    assert torch.equal(attention_mask(2, 2, 6), torch.tensor(column).bool())
    assert attention_mask(2, 2, 0).all()


@given(sides, sides, st.sampled_from(ALL))
def test_each_sees_itself_and_as_many_as_its_place(height, width, ordering):
    mask = attention_mask(height, width, ordering)
    assert mask.diagonal().all()
    assert torch.equal(mask.sum(1), ranks(height, width, ordering).flatten() + 1)


def test_hard_pairs_share_only_the_pixel_itself():
    for ordering in RASTER:
        both = attention_mask(3, 4, ordering) & attention_mask(3, 4, opposite(ordering))
        assert torch.equal(both, torch.eye(12, dtype=torch.bool))


# --- Samples -----------------------------------------------------------------------------------


def many(count, kind, sampling):
    generator = seeded()
    return [sample_pair(kind, sampling, generator) for _ in range(count)]


def test_random_pairs_are_all_there_are():
    assert set(many(300, (1, 4, 12), "random")) == {(a, b) for a in (1, 4, 12) for b in (1, 4, 12)}


def test_pairs_without_repetition_are_all_but_those():
    pairs = {(a, b) for a in (1, 4, 12) for b in (1, 4, 12) if a != b}
    assert set(many(300, (1, 4, 12), "no_repetition")) == pairs


def test_hard_pairs_are_opposites():
    assert set(many(300, (1, 3, 9, 11), "hard")) == {(1, 3), (3, 1), (9, 11), (11, 9)}


@pytest.mark.parametrize("sampling", orderings.SAMPLING)
def test_every_ordering_is_drawn_as_often_as_another(sampling):
    counts = torch.zeros(17)
    for pair in many(1600, RASTER, sampling):
        counts[list(pair)] += 1  # of a pair of the same, once
    if sampling == "random":
        counts *= 16 / 15
    assert (counts[1:9] - 400).abs().max() < 100
    assert counts[0] == counts[9:].sum() == 0


@given(st.integers(0, 2**32), st.integers(1, 4), st.booleans(), st.sampled_from((RASTER, ALL)))
def test_a_subset_holds_what_it_should(seed, half, opposites, kind):
    chosen = subset(2 * half, kind, opposites, seeded(seed))
    assert len(chosen) == len(set(chosen)) == 2 * half
    assert set(chosen) <= set(kind)
    assert list(chosen) == sorted(chosen)
    if opposites:
        assert {opposite(o) for o in chosen} == set(chosen)


def test_every_subset_is_drawn():
    generator = seeded()
    assert len({subset(2, RASTER, False, generator) for _ in range(400)}) == 28
    assert len({subset(2, ALL, True, generator) for _ in range(100)}) == 8
    assert subset(8) == RASTER


def test_samples_take_the_seed_of_their_generator_or_of_torch():
    def draw(generator=None):
        return subset(4, ALL, generator=generator), sample_pair(ALL, generator=generator)

    torch.manual_seed(3)
    first = draw(), draw()
    generator = seeded(3)
    assert (draw(generator), draw(generator)) == first
    assert len(set(first)) == 2


# --- Bad input ---------------------------------------------------------------------------------


X = torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (ranks, (2, 2, 17), ValueError, "`ordering` must be an integer from 0 to 16, got 17"),
        (ranks, (2, 2, -1), ValueError, "`ordering` must be .* at least 0, got -1"),
        (ranks, (2, 2, 1.0), TypeError, "`ordering` must be an integer, got float"),
        (ranks, (-1, 2, 1), ValueError, "`height` must be .* at least 0, got -1"),
        (attention_mask, (2, None, 1), TypeError, "`width` must be an .*, got NoneType"),
        (turn, (X, 17), ValueError, "`ordering` must be .* 0 to 16, got 17"),
        (turn_back, (X, "1"), TypeError, "`ordering` must be an integer, got str"),
        (opposite, (True,), TypeError, "`ordering` must be an integer, got bool"),
        (sample_pair, (ALL, "easy"), ValueError, "`sampling` must be one of .*, got 'easy'"),
        (sample_pair, (3,), TypeError, "`orderings` must be a sequence of .*, got int"),
        (sample_pair, ((1, 17),), ValueError, "`orderings` must be .* 0 to 16, got 17"),
        (sample_pair, ((0, 1),), ValueError, "`orderings` must be .* at least 1, got 0"),
        (sample_pair, ((2, 2),), ValueError, r"`orderings` must not repeat any, got \(2, 2\)"),
        (sample_pair, ((),), ValueError, "`orderings` must hold at least 1, got 0"),
        (sample_pair, ((5,), "no_repetition"), ValueError, "must hold at least 2, got 1"),
        (sample_pair, ((1, 2), "hard"), ValueError, "opposite of each, got 1 without 3"),
        (sample_pair, (ALL, "hard", 1), TypeError, "`generator` must be a .*, got int"),
        (subset, (9,), ValueError, "`size` must be at most 8, .* got 9"),
        (subset, (0,), ValueError, "`size` must be an integer of at least 1, got 0"),
        (subset, (3, ALL, True), ValueError, "`size` must be even .*, got 3"),
        (subset, (2, (1, 4), True), ValueError, "opposite of each, got 1 without 3"),
    ],
)
def test_bad_input(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(*arguments)
