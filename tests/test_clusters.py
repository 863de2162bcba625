"""SegmentationMetrics."""

import itertools

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from fastseg import SegmentationMetrics
from fastseg.backends import BackendUnavailable

SIZES = [(3, 3), (6, 4), (2, 5), (1, 1), (27, 27)]  # clusters, classes


def drawn(clusters, classes, pixels=3000, seed=0, void=0.1, noise=0.5):
    """Labels that agree to a degree, some of them left out: int64."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, pixels)
    pred = np.where(
        rng.random(pixels) < noise, rng.integers(0, clusters, pixels), target % clusters
    )
    pred[rng.random(pixels) < void] = -1
    target[rng.random(pixels) < void] = -1
    return pred, target


def scored(pred, target, *sizes, mapping=None, **options):
    metrics = SegmentationMetrics(*sizes, **options)
    metrics.update(pred, target)
    return metrics.compute(mapping)


def test_by_hand():
    """Four clusters, two classes; one cluster stays without a class, one pixel is left out."""
    pred = torch.tensor([[0, 0, 0, 1], [1, 2, 2, 3]])
    target = torch.tensor([[1, 1, 0, 0], [0, 1, 1, -1]])
    one = scored(pred, target, 4, 2)
    # Clusters 1 and one of 0 and 2, tied: 2 + 2 of 7 pixels.
    assert one.confusion.tolist() == [[1, 2], [2, 0], [0, 2], [0, 0]]
    assert one.mapping[1] == 0
    assert sorted(one.mapping) == [-1, -1, 0, 1]
    assert one.accuracy == pytest.approx(4 / 7)
    many = scored(pred, target, 4, 2, matching="many_to_one")
    assert many.mapping.tolist() == [1, 0, 1, -1]
    assert many.accuracy == pytest.approx(6 / 7)
    assert many.iou.tolist() == pytest.approx([2 / 3, 4 / 5])
    assert many.miou == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert many.class_dice.tolist() == pytest.approx([4 / 5, 8 / 9])
    assert many.dice == pytest.approx((4 / 5 + 8 / 9) / 2)
    given = scored(pred, target, 4, 2, mapping=[0, 0, -1, 1])
    assert given.accuracy == pytest.approx(3 / 7)
    assert given.iou.tolist() == pytest.approx([3 / 5, 0])  # class 1 is never predicted


@pytest.mark.parametrize("matching", ["one_to_one", "many_to_one"])
@pytest.mark.parametrize(("clusters", "classes"), SIZES)
def test_equals_scikit_learn(clusters, classes, matching):
    pred, target = drawn(clusters, classes)
    scores = scored(pred, target, clusters, classes, matching=matching)
    known = (pred >= 0) & (target >= 0)
    p, t = pred[known], target[known]
    table = sk.cluster.contingency_matrix(t, p).T
    assert np.array_equal(scores.confusion[: len(table), : table.shape[1]], table)
    assert scores.nmi == pytest.approx(sk.normalized_mutual_info_score(t, p), abs=1e-12)
    assert scores.ari == pytest.approx(sk.adjusted_rand_score(t, p), abs=1e-12)
    mapped, every = scores.mapping[p], range(classes)
    assert scores.accuracy == pytest.approx(sk.accuracy_score(t, mapped))
    iou = sk.jaccard_score(t, mapped, labels=every, average=None)
    dice = sk.f1_score(t, mapped, labels=every, average=None)
    assert scores.iou == pytest.approx(iou)
    assert scores.class_dice == pytest.approx(dice)
    assert (scores.miou, scores.dice) == pytest.approx((iou.mean(), dice.mean()))


@pytest.mark.parametrize(("clusters", "classes"), [(3, 3), (5, 3), (3, 5)])
def test_no_matching_of_one_to_one_is_better(clusters, classes):
    pred, target = drawn(clusters, classes, noise=0.9)
    scores = scored(pred, target, clusters, classes)
    assert (scores.mapping >= 0).sum() == min(clusters, classes)
    padded = [*range(classes)] + [-1] * clusters
    best = max(
        sum(scores.confusion[k, c] for k, c in enumerate(choice) if c >= 0)
        for choice in set(itertools.permutations(padded[: max(clusters, classes)], clusters))
    )
    assert scores.accuracy == best / scores.confusion.sum()


def test_scores_do_not_depend_on_how_pixels_come():
    """In one piece or many, in any kind of integer or array, merged, or by other labels."""
    pred, target = drawn(6, 4, void=0)
    whole = scored(pred, target, 6, 4)
    halves = [SegmentationMetrics(6, 4) for _ in range(2)]
    for i, kind in enumerate((torch.uint8, torch.int16, torch.int32, torch.int64)):
        part = slice(i * 750, (i + 1) * 750)
        halves[i % 2].update(torch.tensor(pred[part], dtype=kind), torch.tensor(target[part]))
    halves[0].merge_state(halves[1])
    merged = halves[0].compute()
    assert np.array_equal(merged.confusion, whole.confusion)
    relabelled = scored(5 - pred, target, 6, 4)
    for name in ("accuracy", "miou", "dice", "nmi", "ari"):
        assert getattr(merged, name) == getattr(whole, name)
        assert getattr(relabelled, name) == pytest.approx(getattr(whole, name))


def test_reset_forgets():
    metrics = SegmentationMetrics(2, 2)
    metrics.update(np.array([0, 1]), np.array([0, 1]))
    metrics.reset()
    assert np.isnan(metrics.compute().accuracy)
    metrics.update(np.array([0, 1, 1]), np.array([0, 0, 0]))
    assert metrics.compute().accuracy == pytest.approx(2 / 3)


def test_a_mapping_learnt_elsewhere():
    pred, target = drawn(8, 3, seed=1, noise=0.2)
    learnt = scored(pred, target, 8, 3, matching="many_to_one").mapping
    other_pred, other_target = drawn(8, 3, seed=2, noise=0.2)
    scores = scored(other_pred, other_target, 8, 3, mapping=learnt)
    known = (other_pred >= 0) & (other_target >= 0)
    hits = learnt[other_pred[known]] == other_target[known]
    assert scores.accuracy == pytest.approx(hits.mean())
    assert np.array_equal(scores.mapping, learnt)


def test_ignore_index():
    pred, target = np.array([0, 1, 1, 0]), np.array([0, 1, 255, 255], np.uint8)
    scores = scored(pred, target, 2, 2, ignore_index=255)
    assert scores.confusion.tolist() == [[1, 0], [0, 1]]
    assert scores.accuracy == 1


def test_classes_that_do_not_occur():
    scores = scored(np.array([0, 0, 1]), np.array([0, 0, 1]), 2, 4)
    assert np.isnan(scores.iou[2:]).all()
    assert (scores.accuracy, scores.miou, scores.dice) == (1, 1, 1)


def test_partitions_of_one_part():
    same = scored(np.zeros(5, int), np.zeros(5, int), 2, 2)
    assert (same.nmi, same.ari) == (1, 1)
    one = scored(np.zeros(4, int), np.array([0, 0, 1, 1]), 2, 2)
    assert (one.nmi, one.ari) == (0, 0)


def test_no_pixel():
    for metrics in (SegmentationMetrics(3, 2), SegmentationMetrics(3, 2, "many_to_one")):
        metrics.update(np.full((2, 2), -1), np.zeros((2, 2), int))
        scores = metrics.compute()
        for name in ("accuracy", "miou", "dice", "nmi", "ari"):
            assert np.isnan(getattr(scores, name)), name
        assert scores.confusion.sum() == 0


def test_many_pixels_do_not_overflow():
    """Pairs of 2⁴⁰ pixels are more than int64 counts."""
    metrics = SegmentationMetrics(2, 2)
    metrics._counts[:4] = torch.tensor([2**40, 2**38, 2**37, 2**40])
    small = SegmentationMetrics(2, 2)
    small._counts[:4] = torch.tensor([2**13, 2**11, 2**10, 2**13])
    large, little = metrics.compute(), small.compute()
    assert large.accuracy == little.accuracy
    assert large.ari == pytest.approx(little.ari, abs=1e-4)
    assert 0 < large.ari < 1


def work_on_a_share(rank, ranks, file, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{file}", rank=rank, world_size=ranks, timeout=None
    )
    metrics = SegmentationMetrics(6, 4, group=torch.distributed.group.WORLD)
    pred, target = drawn(6, 4)
    metrics.update(pred[rank::ranks], target[rank::ranks])
    for _ in range(2):  # computing again adds nothing
        scores = metrics.compute()
    results[rank] = scores.accuracy, scores.nmi, scores.confusion.tolist()
    torch.distributed.destroy_process_group()


def test_ranks_count_together(tmp_path):
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(work_on_a_share, (2, tmp_path / "store", results), nprocs=2)
        whole = scored(*drawn(6, 4), 6, 4)
        expected = whole.accuracy, whole.nmi, whole.confusion.tolist()
        assert dict(results) == {0: expected, 1: expected}


def test_another_device():
    """The counts follow the first labels, and later ones must be there too."""
    metrics = SegmentationMetrics(2, 2)
    metrics._counts = metrics._counts.to("meta")  # as if on a GPU that nothing was counted on
    metrics.update(np.array([0]), np.array([1]))
    assert metrics.compute().confusion.tolist() == [[0, 1], [0, 0]]
    metrics._counts = metrics._counts.to("meta")
    with pytest.raises(ValueError, match=r"`pred` must be on the device .* \(meta\), got cpu"):
        metrics.update(np.array([0]), np.array([1]))


def test_labels_too_large_counted_on_a_gpu_are_reported_by_compute():
    metrics = SegmentationMetrics(2, 3)
    metrics._counts[-1] = 7
    with pytest.raises(ValueError, match="`target` must be below 3, got 7 pixels that are not"):
        metrics.compute()


I = np.zeros(3, int)  # noqa: E741


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: SegmentationMetrics(0, 2), ValueError, "`num_clusters` must be an integer of"),
        (lambda m: SegmentationMetrics(2, 2, "best"), ValueError, "`matching` must be one of"),
        (lambda m: m.update([0], I), TypeError, "`pred` must be a torch.Tensor, a NumPy array"),
        (lambda m: m.update(I, I[:2]), ValueError, r"`target` must have shape \(3\), got \(2,\)"),
        (lambda m: m.update(I + 2, I), ValueError, "`pred` must be below 2, got 3 pixels"),
        (lambda m: m.update(I, I + 3), ValueError, "`target` must be below 3, got 3 pixels"),
        (lambda m: m.merge_state(3), TypeError, "`other` must be SegmentationMetrics, got int"),
        (
            lambda m: m.merge_state(SegmentationMetrics(3, 3)),
            ValueError,
            r"`other` must have K and C of \(2, 3\), got \(3, 3\)",
        ),
        (lambda m: m.compute([0]), ValueError, "`mapping` must have a class for each of the 2"),
        (lambda m: m.compute([0, 3]), ValueError, "`mapping` must be below 3, got 3"),
        (lambda m: m.compute([0, -2]), ValueError, "`mapping` must be an integer of at least -1"),
        (lambda m: m.compute([0, 0.5]), TypeError, "`mapping` must be an integer, got float"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(SegmentationMetrics(2, 3))


def test_the_backend_is_that_of_the_labels():
    """A metric that counts on a GPU is made before there are labels."""
    metrics = SegmentationMetrics(2, 2, backend="triton")
    assert not metrics.counts.any()
    labels = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(BackendUnavailable, match="'triton' cannot run confusion"):
        metrics.update(labels, labels)
    with pytest.raises(ValueError, match=r"`backend` must be one of 'auto', .*, got 'gpu'"):
        SegmentationMetrics(2, 2, backend="gpu")
