"""The function of the family, the operator it registers, and its checks."""

import torch
from torch.library import define, impl, register_fake

from ... import backends
from ...checks import (
    INT32_MAX,
    check_dtype,
    check_int,
    check_same_device,
    check_shape,
    check_tensor,
)

__all__ = ["check_outside", "confusion"]

INTEGERS = (torch.uint8, torch.int16, torch.int32, torch.int64)

define(
    "fastseg::confusion",
    "(Tensor pred, Tensor target, int num_clusters, int num_classes, int ignore_index, str backend)"
    " -> Tensor",
)


def confusion(
    pred: torch.Tensor,
    target: torch.Tensor,
    num_clusters: int,
    num_classes: int,
    ignore_index: int = -1,
    backend: str = "auto",
) -> torch.Tensor:
    """Count the pixels of each pair of cluster and class.

    A pixel is left out where its cluster or class is negative, or its class `ignore_index`.

    Args:
        pred: (…), uint8, int16, int32 or int64, cluster of each pixel, below `num_clusters`.
        target: the same shape, likewise, class of each pixel, below `num_classes`.
        num_clusters, num_classes: K and C.
        ignore_index: class of pixels to leave out.
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Returns:
        (K·C + 2,) int64: the pairs, k·C + c, then the pixels whose cluster is too large, then those
        whose class is. On the CPU the last two are 0, because such pixels are an error.

    Raises:
        TypeError, ValueError: an argument is not as above.
        BackendUnavailable: the named backend cannot run here.
    """
    for name, labels in (("pred", pred), ("target", target)):
        check_tensor(name, labels)
        check_dtype(name, labels, INTEGERS)
    check_shape("target", target, tuple(pred.shape))
    check_same_device("target", target, "pred", pred)
    check_int("num_clusters", num_clusters, 1)
    check_int("num_classes", num_classes, 1)
    if num_clusters * num_classes > INT32_MAX - 3:
        raise ValueError(f"`num_clusters`·`num_classes` must be at most {INT32_MAX - 3}")
    check_int("ignore_index", ignore_index, -INT32_MAX)
    if not torch.compiler.is_compiling():  # a compiled graph finds out when it runs
        backends.resolve("confusion", pred.device, backend)
    sizes = num_clusters, num_classes, ignore_index
    return torch.ops.fastseg.confusion(pred, target, *sizes, backend)


@impl("fastseg::confusion", ("CPU", "CUDA"))
def _confusion(pred, target, num_clusters, num_classes, ignore_index, backend):
    kernel = backends.load("confusion", pred.device, backend)
    counts = kernel.confusion(pred, target, num_clusters, num_classes, ignore_index)
    if pred.device.type == "cpu":
        check_outside(counts, num_clusters, num_classes)
    return counts


@register_fake("fastseg::confusion")
def _(pred, target, num_clusters, num_classes, ignore_index, backend):
    return pred.new_empty(num_clusters * num_classes + 2, dtype=torch.int64)


def check_outside(counts: torch.Tensor, num_clusters: int, num_classes: int) -> None:
    """No label was too large."""
    bad_clusters, bad_classes = counts[-2:].tolist()
    for name, count, bad in (
        ("pred", num_clusters, bad_clusters),
        ("target", num_classes, bad_classes),
    ):
        if bad:
            raise ValueError(f"`{name}` must be below {count}, got {bad} pixels that are not")
