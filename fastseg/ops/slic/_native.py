"""CPU launcher of csrc/slic.h."""

import numpy as np
import torch

from ... import _native
from ._seeds import Seeds
from ._smooth import smooth


def extremes(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The least and the most value of each image, of any layout: float32 (B,), NaN if one is."""
    order = sorted((1, 2, 3), key=images.stride, reverse=True)
    values = images.detach().permute(0, *order).flatten(1)
    if values.stride(1) != 1:
        values = values.contiguous()
    least, most = np.empty((2, len(images)), np.float32)
    _native.extremes(values.numpy(), least, most, torch.get_num_threads())
    return least, most


def rgb_to_lab(images: torch.Tensor, low: np.ndarray, extent: np.ndarray) -> torch.Tensor:
    """(v − low) / extent in CIE Lab: images (B,3,H,W) uint8 or float32 → float32."""
    out = torch.empty(images.shape, dtype=torch.float32)
    threads = torch.get_num_threads()
    _native.rgb_to_lab(images.detach().numpy(), low, extent, out.numpy(), threads)
    return out


def slic(
    images: torch.Tensor,
    mask: torch.Tensor | None,
    low: np.ndarray,
    extent: np.ndarray,
    seeds: Seeds,
    scale: float,
    iterations: int,
    sigma: tuple[float, float],
    lab: bool,
    connected: bool,
    zero: bool,
    start: int,
) -> torch.Tensor:
    """See `_reference.slic`; images are of any layout."""
    images = images.detach()
    if max(sigma) > 0:
        convert = rgb_to_lab if lab else _rescaled
        images = torch.from_numpy(smooth(convert(images, low, extent).numpy(), sigma))
        low, extent, lab = np.zeros_like(low), np.zeros_like(extent), False
    if mask is not None:
        images = images.float().masked_fill(~mask[:, None], torch.nan)
    labels = torch.empty((len(images), *images.shape[2:]), dtype=torch.int32)
    _native.slic(
        images.numpy(),
        low,
        extent,
        seeds.at,
        seeds.weight,
        seeds.reach,
        seeds.sizes,
        labels.numpy(),
        iterations=iterations,
        lab=lab,
        scale=scale,
        zero=zero,
        seek=mask is not None,
        connect=connected,
        start=start,
        threads=torch.get_num_threads(),
    )
    return labels


def _rescaled(images: torch.Tensor, low: np.ndarray, extent: np.ndarray) -> torch.Tensor:
    columns = (torch.from_numpy(v).view(-1, 1, 1, 1) for v in (low, np.where(extent, extent, 1)))
    least, width = columns
    return (images.float() - least) / width
