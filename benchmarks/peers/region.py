"""What a user could run instead of the region operators, and the Python loops over regions.

x (B,C,H,W) float32, labels (B,H,W) int64 in [0, R) → (B,R,C)
"""

import warnings
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from fastseg import RegionIndex

HAS_TORCH_SCATTER = find_spec("torch_scatter") is not None
HAS_CUPY = find_spec("cupyx") is not None
TORCH_NAMES = {"max": "amax", "mean": "mean", "sum": "sum"}


def scatter_reduce(
    x: torch.Tensor, labels: torch.Tensor, regions: int, reduce: str
) -> torch.Tensor:
    """`torch.scatter_reduce` over the pixels of each plane."""
    batch, channels = x.shape[:2]
    at = labels.flatten(1)[:, None].expand(-1, channels, -1)
    out = x.new_zeros((batch, channels, regions))
    pooled = out.scatter_reduce(2, at, x.flatten(2), TORCH_NAMES[reduce], include_self=False)
    return pooled.mT


def index_reduce(x: torch.Tensor, labels: torch.Tensor, regions: int, reduce: str) -> torch.Tensor:
    """`torch.index_reduce` (`index_add` for a sum) over whole pixels; x is channels-last."""
    batch, channels = x.shape[:2]
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    at = (labels + regions * torch.arange(batch, device=x.device).view(-1, 1, 1)).flatten()
    out = x.new_zeros((batch * regions, channels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is in beta
        if reduce == "sum":
            pooled = out.index_add(0, at, rows)
        else:
            pooled = out.index_reduce(0, at, rows, TORCH_NAMES[reduce], include_self=False)
    return pooled.view(batch, regions, channels)


def torch_scatter(x: torch.Tensor, labels: torch.Tensor, regions: int, reduce: str) -> torch.Tensor:
    """`torch_scatter.scatter` over the pixels of each plane."""
    from torch_scatter import scatter

    return scatter(x.flatten(2), labels.flatten(1)[:, None], 2, None, regions, reduce).mT


def scipy_labelled(
    x: torch.Tensor, labels: torch.Tensor, regions: int, reduce: str
) -> torch.Tensor:
    """`scipy.ndimage`'s labelled statistics, plane by plane; the mean of no pixels is set to 0."""
    statistic = {"max": ndimage.maximum, "mean": ndimage.mean, "sum": ndimage.sum_labels}[reduce]
    with np.errstate(invalid="ignore"):
        planes = [
            [np.asarray(statistic(plane, label, np.arange(regions))) for plane in image]
            for image, label in zip(x.numpy(), labels.numpy(), strict=True)
        ]
    pooled = np.stack([np.stack(image, 1) for image in planes])
    return torch.from_numpy(np.nan_to_num(pooled)).to(x.dtype)


def cupy_labelled(x: torch.Tensor, labels: torch.Tensor, regions: int, reduce: str) -> torch.Tensor:
    """CuPy's copy of it on a GPU, plane by plane."""
    import cupy
    from cupyx.scipy import ndimage as on_gpu

    statistic = {"max": on_gpu.maximum, "mean": on_gpu.mean, "sum": on_gpu.sum_labels}[reduce]
    index = cupy.arange(regions)
    with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
        planes = [
            [statistic(cupy.from_dlpack(plane), cupy.from_dlpack(label), index) for plane in image]
            for image, label in zip(x, labels, strict=True)
        ]
        pooled = cupy.stack([cupy.stack(image, 1) for image in planes])
    return torch.from_dlpack(pooled).nan_to_num().to(x.dtype)


def spp_loop(x: torch.Tensor, index: RegionIndex, levels: tuple[int, ...]) -> torch.Tensor:
    """`adaptive_max_pool2d` of each region's box, its other pixels set to 0: (B,R,C·Σl²)."""
    bins = sum(level * level for level in levels)
    rows = []
    # Image by image: the gradient of a part of x is as large as what it was taken of.
    for image, labels, boxes in zip(x.unbind(), index.labels, index.boxes.tolist(), strict=True):
        for r, (top, left, bottom, right) in enumerate(boxes):
            if bottom == top:
                rows.append(x.new_zeros(bins * x.shape[1]))
                continue
            own = labels[top:bottom, left:right] == r
            box = torch.where(own, image[:, top:bottom, left:right], 0)
            parts = [F.adaptive_max_pool2d(box, level).flatten(1) for level in levels]
            rows.append(torch.cat(parts, 1).T.flatten())
    return torch.stack(rows).view(len(x), index.num_regions, -1)


def resize_loop(x: torch.Tensor, index: RegionIndex, size: tuple[int, int]) -> torch.Tensor:
    """`interpolate` of each region's box and of its mask: (B,R,C,h,w)."""
    rows = []
    for image, labels, boxes in zip(x.unbind(), index.labels, index.boxes.tolist(), strict=True):
        for r, (top, left, bottom, right) in enumerate(boxes):
            if bottom == top:
                rows.append(x.new_zeros((x.shape[1], *size)))
                continue
            own = (labels[top:bottom, left:right] == r)[None, None]
            mask = F.interpolate(own.to(x.dtype), size)[0]
            box = image[None, :, top:bottom, left:right]
            rows.append(F.interpolate(box, size, mode="bilinear")[0] * mask)
    return torch.stack(rows).view(len(x), index.num_regions, x.shape[1], *size)
