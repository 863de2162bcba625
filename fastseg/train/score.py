"""A method's predictions against the truth, and what is reported of them.

Two numbers stand side by side wherever results are shown. `last`, the honest one, is of the weights
as training left them: no label has had a say in them, nor in when to stop. `best (oracle)` is the
highest accuracy of any epoch, which takes the truth to know; papers have published that.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from ..data.base import Batch
from ..methods.base import Method
from ..metrics import SegmentationMetrics, SegmentationScores
from .labelled import Lessons

__all__ = ["BEST", "BETTER", "LAST", "best_of", "score", "summary"]

LAST, BEST = "last", "best (oracle)"
BETTER = "better side (oracle)"


@torch.no_grad()
def score(
    method: Method,
    batches: Iterable[Batch],
    classes: int,
    device: torch.device,
    group: Any = None,
    look: Callable[[Batch, Mapping[str, torch.Tensor]], None] = lambda batch, predicted: None,
    lessons: Lessons = Lessons(),  # noqa: B008  # it cannot change
) -> dict[str, SegmentationScores]:
    """Score every variant on batches with labels, matched once over all their pixels.

    Of two classes the second is foreground; which cluster of a binary method is that, no truth has
    to say. `BETTER` scores beside it the better of each picture's mask and its complement, which
    takes the truth to know; the paper on IEM has published that.

    The method is in evaluation mode meanwhile, and as it was afterwards.

    Args:
        classes: number of classes in the truth.
        group: ranks that have other batches of the same set.
        look: is called with each batch and what was predicted of it.
        lessons: of a few labels; each is scored beside the variants.
    """
    binary = method.binary and classes == 2
    better = {f"{variant}, {BETTER}": variant for variant in method.variants if binary}
    metrics = {
        name: SegmentationMetrics(method.clusters, classes, method.matching, group=group)
        for name in (*method.variants, *better)
    }
    probed = {name: SegmentationMetrics(classes, classes, group=group) for name in lessons.probes}
    training = method.training
    method.eval()
    try:
        for batch in batches:
            batch = batch.to(device)
            predicted = method.predict(batch)
            for variant in method.variants:
                metrics[variant].update(predicted[variant], batch.labels)
            for name, variant in better.items():
                metrics[name].update(_better(predicted[variant], batch.labels), batch.labels)
            for name, found in lessons.probe(method, batch).items():
                probed[name].update(found, batch.labels)
            look(batch, predicted)
    finally:
        method.train(training)
    known = range(2) if binary else None
    scores = {name: counter.to(device).compute(known) for name, counter in metrics.items()}
    for name, (variant, mapping) in lessons.mappings.items():
        scores[name] = metrics[variant].compute(mapping)
    for name, counter in probed.items():
        scores[name] = counter.to(device).compute(range(classes))
    return scores


def _better(masks: torch.Tensor, truth: Any) -> torch.Tensor:
    """Of each picture the mask (B,H,W) or its complement, where that agrees with more pixels."""
    known = truth >= 0
    agree = ((masks == truth) & known).flatten(1).sum(1)
    worse = 2 * agree < known.flatten(1).sum(1)
    return torch.where(worse[:, None, None], 1 - masks, masks)


def summary(scores: SegmentationScores) -> dict[str, Any]:
    """The scores as JSON holds them; None for a class that does not occur."""
    numbers = {name: getattr(scores, name) for name in ("accuracy", "miou", "dice", "nmi", "ari")}
    iou = [None if np.isnan(value) else float(value) for value in scores.iou]
    return {**numbers, "iou": iou, "mapping": scores.mapping.tolist()}


def best_of(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each variant the scores of the epoch with the highest accuracy, the first of several.

    Args:
        lines: of metrics.jsonl.
    """
    best: dict[str, dict[str, Any]] = {}
    for line in lines:
        for variant, found in line.get("scores", {}).items():
            now = {**found[LAST], "epoch": line["epoch"]}
            if variant not in best or now["accuracy"] > best[variant]["accuracy"]:
                best[variant] = now
    return best
