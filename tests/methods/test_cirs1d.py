"""The one-dimensional proof, on the thesis' examples and others."""

from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastseg.methods.cirs1d import (
    color_segmentation,
    cross_instance_segmentation,
    frequent_patterns,
    pattern_counts,
    pattern_segmentation,
    segmentations,
)


def row(text):
    return [int(cell) for cell in text]


def written(cells, segmentation):
    """As the thesis writes it: each segment's values, and below them the locations."""
    return [
        ("".join(str(cells[j]) for j in segment), "".join(map(str, segment)))
        for segment in segmentation
    ]


ONE = [row(text) for text in ("112200", "011220", "001122")]  # of the object 1122
TWO = [row(text) for text in ("110022", "011220", "002211", "022110", "220011")]  # of 11 and 22


# --- §4.1: by colour ---------------------------------------------------------------------------


def test_colour_clustering_finds_objects_of_one_colour():
    assert written(TWO[0], color_segmentation(TWO[0])) == [("11", "01"), ("22", "45"), ("00", "23")]
    assert written(TWO[1], color_segmentation(TWO[1])) == [("11", "12"), ("22", "34"), ("00", "05")]
    assert written(TWO[2], color_segmentation(TWO[2])) == [("22", "23"), ("11", "45"), ("00", "01")]


def test_colour_clustering_cuts_the_object_of_two_colours():
    assert [written(x, color_segmentation(x)) for x in ONE] == [
        [("11", "01"), ("22", "23"), ("00", "45")],
        [("11", "12"), ("22", "34"), ("00", "05")],
        [("11", "23"), ("22", "45"), ("00", "01")],
    ]


def test_the_candidates_that_the_thesis_rejects_are_among_them():
    found = [sorted(text for text, _ in written(TWO[0], each)) for each in segmentations(TWO[0])]
    assert ["1", "1002", "2"] in found
    assert ["00", "1", "1", "2", "2"] in found
    assert ["110022"] in found
    assert len(found) == 2**5


# --- §4.2: by what the rows share --------------------------------------------------------------


def test_cross_instance_similarity_finds_the_object_of_two_colours():
    assert [written(x, s) for x, s in zip(ONE, cross_instance_segmentation(ONE), strict=True)] == [
        [("1122", "0123"), ("00", "45")],
        [("1122", "1234"), ("00", "05")],
        [("1122", "2345"), ("00", "01")],
    ]


def test_cross_instance_similarity_finds_two_objects():
    assert [written(x, s) for x, s in zip(TWO, cross_instance_segmentation(TWO), strict=True)] == [
        [("11", "01"), ("22", "45"), ("00", "23")],
        [("11", "12"), ("22", "34"), ("00", "05")],
        [("11", "45"), ("22", "23"), ("00", "01")],
        [("11", "34"), ("22", "12"), ("00", "05")],
        [("11", "45"), ("22", "01"), ("00", "23")],
    ]


def test_rows_that_share_nothing():
    with pytest.raises(ValueError, match="`rows` must hold at least one row, got none"):
        cross_instance_segmentation([])
    with pytest.raises(ValueError, match="`rows` must all have the same cells, in some order"):
        cross_instance_segmentation([row("110"), row("220")])


def cost(rows, chosen):
    """The two sums of §4.2, for segments matched by their index and equally long."""
    variance = 0.0
    for matched in zip(*chosen, strict=True):
        values = [[x[j] for j in s] for x, s in zip(rows, matched, strict=True)]
        for column in zip(*values, strict=True):
            mean = sum(column) / len(column)
            variance += sum((value - mean) ** 2 for value in column)
    return variance, sum(len(x) / len(s) for x, s in zip(rows, chosen, strict=True))


@given(st.permutations((0, 0, 1, 2)), st.permutations((0, 0, 1, 2)))
def test_no_other_segmentation_is_better(first, second):
    """Than each pair of segmentations in each order of the second's segments."""
    rows = [first, second]
    variance, size = cost(rows, cross_instance_segmentation(rows))
    assert variance == 0
    for one, two in product(*map(segmentations, rows)):
        for other in permutations(two) if len(one) == len(two) else ():
            if all(len(a) == len(b) for a, b in zip(one, other, strict=True)):
                varies, larger = cost(rows, (one, other))
                assert varies > 0 or larger <= size


# --- §12.1: by frequent patterns ---------------------------------------------------------------


def test_the_counts_of_the_appendix():
    """But for 12200 and 0112, which it has as 2 and 1: the one is in one row, the other in two.
    It leaves out the patterns of the third row that begin with 00, and the rows themselves."""
    expected = {
        "1": 3, "2": 3, "0": 3,
        "11": 3, "12": 3, "22": 3, "20": 2, "00": 2, "01": 2,
        "112": 3, "122": 3, "220": 2, "200": 1, "011": 2,
        "1122": 3, "1220": 2, "2200": 1, "0112": 2,
        "11220": 2, "12200": 1, "01122": 2,
    }  # fmt: skip
    left_out = {"001": 1, "0011": 1, "00112": 1, "112200": 1, "011220": 1, "001122": 1}
    counts = {"".join(map(str, pattern)): n for pattern, n in pattern_counts(ONE).items()}
    assert counts == expected | left_out


def test_the_procedure_finds_the_object_of_two_colours():
    assert frequent_patterns(ONE) == [(1, 1, 2, 2)]
    assert pattern_segmentation(ONE) == cross_instance_segmentation(ONE)


def test_the_procedure_goes_on_to_the_next_object():
    assert frequent_patterns(TWO) == [(1, 1), (2, 2)]
    assert pattern_segmentation(TWO) == cross_instance_segmentation(TWO)


def test_what_a_row_lacks_and_rows_without_objects():
    rows = [row("3300"), row("0033"), row("0000")]
    assert frequent_patterns(rows) == [(3, 3)]
    assert pattern_segmentation(rows) == [((0, 1), (2, 3)), ((2, 3), (0, 1)), ((), (0, 1, 2, 3))]
    assert frequent_patterns([row("00")]) == []
    assert frequent_patterns([row("5")]) == [(5,)]
    assert pattern_segmentation([]) == []


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=4))
def test_the_procedure_cuts_every_row(rows):
    """Each cell is in one segment, and what is not background is in none."""
    patterns = frequent_patterns(rows)
    for cells, (*segments, background) in zip(rows, pattern_segmentation(rows), strict=True):
        assert sorted(j for s in (*segments, background) for j in s) == list(range(len(cells)))
        assert not any(cells[j] for j in background)
        assert len(segments) == len(patterns)
        for segment, pattern in zip(segments, patterns, strict=True):
            assert [cells[j] for j in segment] in ([], [value for value in pattern if value])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=6), st.data())
def test_an_object_before_any_background_is_found(places, data):
    """Of different cells, in rows of which two show it in different places."""
    size = data.draw(st.integers(1, 4))
    shown = tuple(range(1, size + 1))
    length = size + 5
    rows = [[0] * a + [*shown] + [0] * (length - size - a) for a in (0, 5, *(a for a, _ in places))]
    assert frequent_patterns(rows) == [shown]
    assert pattern_segmentation(rows) == cross_instance_segmentation(rows)
