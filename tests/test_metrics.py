import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from fastseg import binary_scores


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
