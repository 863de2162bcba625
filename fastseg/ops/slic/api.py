"""The public function of the family, the operator it registers, and its checks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.library import define, impl, register_fake

from ... import backends
from ...checks import (
    check_choice,
    check_dtype,
    check_int,
    check_ndim,
    check_number,
    check_same_device,
    check_shape,
)
from ...interop import as_tensor
from ._seeds import seeds

__all__ = ["slic"]

DTYPES = (torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16)

define(
    "fastseg::slic",
    "(Tensor images, Tensor? mask, int n_segments, float compactness, int max_num_iter,"
    " float[2] sigma, bool lab, bool enforce_connectivity, float min_size_factor,"
    " float max_size_factor, bool slic_zero, int start_label, str backend) -> Tensor",
)


def slic(
    images: Any,
    n_segments: int = 100,
    compactness: float = 10.0,
    max_num_iter: int = 10,
    sigma: float | Sequence[float] = 0,
    *,
    convert2lab: bool | None = None,
    enforce_connectivity: bool = True,
    min_size_factor: float = 0.5,
    max_size_factor: float = 3,
    slic_zero: bool = False,
    start_label: int = 0,
    mask: Any = None,
    backend: str = "auto",
) -> Any:
    """Cut each image into superpixels by k-means of colour and position.

    Pixels p with colour c_p and position x_p go to the nearest centre k within ±2S along each axis,
    then centres to the mean of their pixels, `max_num_iter` times; S² = HW / `n_segments`:

        D(p,k) = ‖c_p − c_k‖² / compactness² + ‖x_p − x_k‖² / S²

    (Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", TPAMI 2012,
    Eq. 3, squared.) Labels are those of `skimage.segmentation.slic`, pixel by pixel where it
    computes in float32 and the colours are given in Lab; our own conversion to Lab may round
    otherwise and so decide ties. The arguments are its own, with these differences: a batch comes
    in, each image of it alone, with channels always second (so no `channel_axis`) and square pixels
    (no `spacing`); `start_label` is 0, as operators on regions count; every dtype is computed in
    float32, where scikit-image takes float64 and uint8 to float64. Not differentiable.

    Args:
        images: (B,C,H,W), uint8 or float, tensor, NumPy or DLPack array; any C ≥ 1, any layout.
            Each image is first scaled to span 0 … 1, over all its channels.
        n_segments: about how many superpixels an image gets.
        compactness: how much position counts against colour; of SLIC-zero, at the start.
        max_num_iter: rounds of k-means, at least 1.
        sigma: standard deviation in pixels of a blur beforehand, or one along y and one along x.
        convert2lab: whether colours are sRGB to be converted to CIE Lab; if None, of 3 channels.
        enforce_connectivity: make superpixels connected, cut those of more than `max_size_factor`
            and merge those of fewer than `min_size_factor` times HW / centres pixels.
        slic_zero: SLIC-zero, which weighs colours by how far they spread in each superpixel.
        start_label: the first label, 0 or 1.
        mask: (B,H,W) bool, the pixels to segment; the others get `start_label` − 1. Centres start
            from a k-means of the mask's positions (Irving, "maskSLIC", arXiv:1606.09518). An only
            centre takes every pixel in reach, where scikit-image labels none.
        backend: "auto", or one of `fastseg.backends.NAMES`.

    Returns:
        (B,H,W) int32 labels, of the kind and on the device of `images`.

    Raises:
        TypeError, ValueError: an argument is not as above. On the CPU also: a float pixel (of the
            mask) that is NaN or infinite.
        BackendUnavailable: the named backend cannot run here.
    """
    pixels, back = as_tensor("images", images)
    check_ndim("images", pixels, "BCHW")
    check_dtype("images", pixels, DTYPES)
    if pixels.shape[1] == 0:
        raise ValueError(
            f"`images` must have at least one channel, got shape {tuple(pixels.shape)}"
        )
    check_int("n_segments", n_segments, 1)
    check_number("compactness", compactness, 0, exclusive=True)
    check_int("max_num_iter", max_num_iter, 1)
    blur = _check_sigma(sigma)
    check_choice("convert2lab", convert2lab, (None, True, False))
    if convert2lab and pixels.shape[1] != 3:
        raise ValueError(
            f"`images` must have 3 channels where `convert2lab` is True, got {pixels.shape[1]}"
        )
    check_choice("enforce_connectivity", enforce_connectivity, (True, False))
    check_number("min_size_factor", min_size_factor, 0)
    check_number("max_size_factor", max_size_factor, 0)
    check_choice("slic_zero", slic_zero, (True, False))
    check_choice("start_label", start_label, (0, 1))
    known = None if mask is None else _check_mask(mask, pixels)
    if not torch.compiler.is_compiling():  # a compiled graph finds out when it runs
        backends.resolve("slic", pixels.device, backend)
    lab = pixels.shape[1] == 3 if convert2lab is None else bool(convert2lab)
    numbers = n_segments, float(compactness), max_num_iter, blur, lab, bool(enforce_connectivity)
    limits = float(min_size_factor), float(max_size_factor), bool(slic_zero), int(start_label)
    return back(torch.ops.fastseg.slic(pixels.detach(), known, *numbers, *limits, backend))


def _check_sigma(sigma: float | Sequence[float]) -> list[float]:
    blur: list[Any] = [*sigma] if isinstance(sigma, list | tuple) else [sigma, sigma]
    if len(blur) != 2:
        raise ValueError(f"`sigma` must be one number or two, got {len(blur)}")
    for value in blur:
        check_number("sigma", value, 0)
    return [float(value) for value in blur]


def _check_mask(mask: Any, images: torch.Tensor) -> torch.Tensor:
    known, _ = as_tensor("mask", mask)
    check_ndim("mask", known, "BHW")
    check_dtype("mask", known, (torch.bool,))
    check_shape("mask", known, (images.shape[0], *images.shape[2:]))
    check_same_device("mask", known, "images", images)
    return known


@impl("fastseg::slic", ("CPU", "CUDA"))
def _slic(
    images, mask, n_segments, compactness, iterations, sigma, lab, connected, least, most, *rest
):
    zero, start, backend = rest
    if images.numel() == 0:
        return _slic_fake(images)
    if images.dtype not in (torch.uint8, torch.float32):
        images = images.float()
    kernel = backends.load("slic", images.device, backend)
    # Where a kernel runs on a GPU, so does this: nothing waits for it.
    if extents := getattr(kernel, "extents", None):
        low, extent = extents(images, mask)
    else:
        low, extent = _extents(images, mask, getattr(kernel, "extremes", _extremes))
    batch, _, height, width = images.shape
    sizes = {"n_segments": n_segments, "min_size_factor": least, "max_size_factor": most}
    start_at = seeds(height, width, mask, batch, sizes)
    options = 1.0 / compactness, iterations, tuple(sigma), lab, connected, zero, start
    return kernel.slic(images, mask, low, extent, start_at, *options)


@register_fake("fastseg::slic")
def _slic_fake(images, *options):
    batch, _, height, width = images.shape
    return images.new_empty((batch, height, width), dtype=torch.int32)


def _extents(images: torch.Tensor, mask: torch.Tensor | None, extremes):
    """Each image's lowest value and how far the highest lies above, of the mask: float32 (B,)."""
    if mask is None:
        least, most = extremes(images)
    else:
        values = images.float()
        least = extremes(values.masked_fill(~mask[:, None], torch.inf))[0]
        most = extremes(values.masked_fill(~mask[:, None], -torch.inf))[1]
    low, high = torch.from_numpy(least), torch.from_numpy(most)
    empty = low > high  # a mask of no pixels
    low, high = low.masked_fill(empty, 0), high.masked_fill(empty, 0)
    for i, (least, most) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if not -torch.inf < least <= most < torch.inf:
            raise ValueError(
                f"`images` must be finite (where the mask is True), got {least:g} … {most:g} "
                f"in image {i}"
            )
    return low.numpy(), (high - low).numpy()


def _extremes(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    values = images.detach().cpu().numpy()
    least, most = (np.asarray(of(values, axis=(1, 2, 3)), np.float32) for of in (np.min, np.max))
    return least, most
