import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from fastseg import binary_scores, superpixel_scores


def masks(*shape, seed=0, share=0.5):
    return np.random.default_rng(seed).random(shape) < share


def test_hand_computed():
    pred = torch.tensor([[[1, 1, 0], [0, 0, 0]]], dtype=torch.bool)
    truth = torch.tensor([[[1, 0, 0], [1, 1, 0]]], dtype=torch.bool)
    # TP 1, FP 1, FN 2, TN 2
    scores = binary_scores(pred, truth)
    assert [s.item() for s in scores] == pytest.approx([3 / 6, 1 / 4, (1 / 4 + 2 / 5) / 2, 2 / 5])
    # The complement: TP 2, FP 2, FN 1, TN 1 → accuracy 3/6, IoU 2/5, background IoU 1/4, DICE 4/7.
    best = binary_scores(pred, truth, polarity="oracle")
    assert [s.item() for s in best] == pytest.approx([3 / 6, 2 / 5, (2 / 5 + 2 / 5) / 2, 4 / 7])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_equals_scikit_learn(share):
    pred, truth, ignore = (
        masks(4, 1, 17, 9, seed=1, share=share),
        masks(4, 1, 17, 9, seed=2),
        masks(4, 1, 17, 9, seed=3, share=0.2),
    )
    scores = binary_scores(pred, truth, ignore)
    assert all(isinstance(s, np.ndarray) and s.dtype == np.float64 for s in scores)
    for i in range(4):
        t, p = truth[i][~ignore[i]], pred[i][~ignore[i]]
        expected = [
            accuracy_score(t, p),
            jaccard_score(t, p),
            jaccard_score(t, p, average="macro"),
            f1_score(t, p),
        ]
        assert [s[i] for s in scores] == pytest.approx(expected, abs=1e-12)


def test_oracle_scores_each_polarity_by_itself():
    pred, truth = masks(6, 11, 13, seed=4, share=0.3), masks(6, 11, 13, seed=5, share=0.7)
    oracle = binary_scores(pred, truth, polarity="oracle")
    given, flipped = binary_scores(pred, truth), binary_scores(~pred, truth)
    for name in ("accuracy", "iou", "dice"):
        expected = np.maximum(getattr(given, name), getattr(flipped, name))
        assert np.array_equal(getattr(oracle, name), expected)
    background = np.maximum(binary_scores(~pred, ~truth).iou, binary_scores(pred, ~truth).iou)
    assert np.allclose(oracle.miou, (oracle.iou + background) / 2, atol=1e-12)
    flipped_oracle = binary_scores(~pred, truth, polarity="oracle")
    assert all(np.array_equal(a, b) for a, b in zip(oracle, flipped_oracle, strict=True))


def test_empty_sets():
    none, every = torch.zeros(1, 4, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool)
    value = lambda *args: [s.item() for s in binary_scores(*args)]  # noqa: E731
    assert value(none, none) == [1, 1, 1, 1]
    assert value(every, every) == [1, 1, 1, 1]
    assert value(every, none) == [0, 0, 0, 0]
    assert value(none, every) == [0, 0, 0, 0]
    assert np.isnan(value(none, none, every)).all()
    assert binary_scores(none[:0], none[:0]).iou.shape == (0,)


def test_counts_do_not_round():
    """More pixels than float32 counts: 2**24 + 1."""
    pred = torch.ones(1, 2**24 + 1, dtype=torch.bool)
    truth = pred.clone()
    truth[0, 0] = False
    assert binary_scores(pred, truth).accuracy.item() == 2**24 / (2**24 + 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((1, 4)), masks(1, 4)), TypeError, "`pred` must be bool, got float64"),
        ((masks(1, 4), masks(1, 5)), ValueError, r"`truth` must have shape \(1, 4\), got \(1, 5\)"),
        ((masks(1, 4), masks(1, 4), masks(4)), ValueError, "`ignore` must have shape"),
        ((masks(4), masks(4)), ValueError, r"`pred` must have shape \(B, …\), got \(4,\)"),
        ((masks(1, 4), masks(1, 4), None, "best"), ValueError, "`polarity` must be one of 'given'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        binary_scores(*arguments)


# --- superpixels -------------------------------------------------------------------------------

TRUTH = [[0, 0, 0, 1, 1, 1]] * 4
LABELS = [[5, 5, 5, 5, 7, 7]] * 4  # 5 leaks over one column of segment 1


def test_superpixels_hand_computed():
    scores = superpixel_scores(np.array([LABELS]), np.array([TRUTH]), tolerance=0)
    # Of the true boundary, columns 2 and 3, the superpixels' has column 3.
    assert scores.boundary_recall == 0.5
    # 12·0 of segment 0 (S5: min(12,4) = 4); of segment 1 S5: min(4,12) = 4, S7: min(8,0) = 0.
    assert scores.undersegmentation_error == pytest.approx(8 / 24)
    assert scores.asa == pytest.approx(20 / 24)
    assert scores.count == 2
    assert superpixel_scores(np.array([LABELS]), np.array([TRUTH]), 1).boundary_recall == 1


def brute_force(labels, truth, tolerance):
    """The definitions, loop by loop."""
    scored = (labels >= 0) & (truth >= 0)
    height, width = labels.shape

    def boundary(a):
        return {
            (y, x)
            for y in range(height)
            for x in range(width)
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            if 0 <= v < height and 0 <= u < width and scored[y, x] and scored[v, u]
            if a[y, x] != a[v, u]
        }

    found, true = boundary(labels), boundary(truth)
    span = range(-tolerance, tolerance + 1)
    hits = sum(any((y + dy, x + dx) in found for dy in span for dx in span) for y, x in true)
    superpixels = [(labels == i) & scored for i in np.unique(labels[scored])]
    segments = [(truth == i) & scored for i in np.unique(truth[scored])]
    leak = sum(
        min((s & g).sum(), (s & ~g).sum()) for g in segments for s in superpixels if (s & g).any()
    )
    best = sum(max((s & g).sum() for g in segments) for s in superpixels)
    return hits / len(true), leak / scored.sum(), best / scored.sum(), len(superpixels)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_superpixels_by_brute_force(dtype):
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(-1, 6, (3, 5, 4)), np.ones((3, 4))).astype(dtype)[:, :13, :15]
    truth = np.kron(rng.integers(-1, 3, (3, 4, 5)), np.ones((4, 3))).astype(dtype)[:, :13, :15]
    scores = superpixel_scores(torch.tensor(labels), torch.tensor(truth), 1)
    for i in range(3):
        expected = brute_force(labels[i], truth[i], 1)
        assert [score[i].item() for score in scores] == pytest.approx(expected)


def test_superpixels_that_are_the_truth_score_full_marks():
    truth = np.random.default_rng(1).integers(0, 9, (2, 30, 40))
    scores = superpixel_scores(truth + 2**40, truth)
    assert (scores.boundary_recall == 1).all()
    assert (scores.undersegmentation_error == 0).all()
    assert (scores.asa == 1).all()
    assert (scores.count == 9).all()


def test_default_tolerance_follows_the_diagonal():
    truth, labels = np.zeros((2, 1, 240, 320), int)
    truth[..., 100:], labels[..., 102:] = 1, 1
    labels[..., 200:] = 2  # 400 pixels of diagonal: one row and column
    assert superpixel_scores(labels, truth).boundary_recall == 0.5
    assert superpixel_scores(labels, truth, 0).boundary_recall == 0


def test_superpixels_without_a_pixel():
    nothing = superpixel_scores(np.full((1, 3, 3), -1), np.zeros((1, 3, 3), int))
    assert nothing.boundary_recall == 1
    assert nothing.count == 0
    assert np.isnan(nothing.asa).all()
    assert np.isnan(nothing.undersegmentation_error).all()
    assert all(len(score) == 0 for score in superpixel_scores(*np.zeros((2, 0, 3, 3), int)))
    assert superpixel_scores(*np.zeros((2, 1, 0, 3), int)).count == 0


@pytest.mark.parametrize(
    ("labels", "truth", "tolerance", "error", "message"),
    [
        (torch.zeros(3, 3), torch.zeros(3, 3), 0, ValueError, "`labels` must have 3 dimensions"),
        (torch.zeros(1, 3, 3), torch.zeros(1, 3, 3).int(), 0, TypeError, "`labels` must be uint8"),
        (torch.zeros(1, 3, 3).int(), torch.zeros(1, 3, 3), 0, TypeError, "`truth` must be uint8"),
        (
            torch.zeros(1, 3, 3).int(),
            torch.zeros(1, 3, 4).int(),
            0,
            ValueError,
            r"`truth` must have shape \(1, 3, 3\), got \(1, 3, 4\)",
        ),
        (
            torch.zeros(1, 3, 3).int(),
            torch.zeros(1, 3, 3).int(),
            -1,
            ValueError,
            "`tolerance` must be an integer of at least 0, got -1",
        ),
    ],
)
def test_superpixel_refusals(labels, truth, tolerance, error, message):
    with pytest.raises(error, match=message):
        superpixel_scores(labels, truth, tolerance)
