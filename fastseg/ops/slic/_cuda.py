"""GPU launcher of csrc/cuda/slic.cu."""

import math
from functools import cache

import numpy as np
import torch

from ...backends.cuda import launch, module, on_stream_of
from ._seeds import Seeds

# As csrc/slic_device.h has it: threads of a block, side of its tile, pixels that a warp counts.
THREADS, TILE, CHUNK = 256, 32, 1024
CONNECT_STEPS = 10
# One block an image, and one launch for all steps, of so many images or of so few pixels each. Then
# the launches would take longer, or blocks fill the card as they are.
MANY_IMAGES, FEW_PIXELS = 256, 4096


def extents(images: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image's lowest value and how far the highest lies above, of the mask: float32 (B,)."""
    lows = highs = images
    if mask is not None:
        lows = images.float().masked_fill(~mask[:, None], torch.inf)
        highs = images.float().masked_fill(~mask[:, None], -torch.inf)
    low, high = lows.amin((1, 2, 3)).float(), highs.amax((1, 2, 3)).float()
    empty = low > high  # a mask of no pixels
    return low.masked_fill(empty, 0), (high - low).masked_fill(empty, 0)


def slic(
    images: torch.Tensor,
    mask: torch.Tensor | None,
    low: torch.Tensor,
    extent: torch.Tensor,
    seeds: Seeds,
    scale: float,
    iterations: int,
    sigma: tuple[float, float],
    lab: bool,
    connected: bool,
    zero: bool,
    start: int,
) -> torch.Tensor:
    """See `_reference.slic`; images are of any layout, `low` and `extent` are tensors.

    Without a mask, only the first call with a size of images and of superpixels waits for the
    device; later ones can be captured in a CUDA graph.
    """
    images = images.detach()
    if max(sigma) > 0:
        images = smooth(_load(images, low, extent, lab, 1.0), sigma)
        low, extent, lab = torch.zeros_like(low), torch.zeros_like(extent), False
    if mask is not None:
        images = images.float().masked_fill(~mask[:, None], torch.nan)
    colours = _load(images, low, extent, lab, scale)
    batch, channels, height, width = colours.shape
    pixels, device = height * width, images.device
    # Without a mask all images have the same.
    alike = mask is None
    rows = slice(0, 1) if alike else slice(None)
    arrays = seeds.at[rows], seeds.weight[rows], seeds.reach[rows], seeds.sizes[rows]
    if alike:
        parameters = [_kept(a.tobytes(), a.dtype.char, device) for a in arrays]
    else:
        parameters = [torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays]
    centres, chunks = seeds.at.shape[1], -(-pixels // CHUNK)
    features = colours.new_empty((batch, centres, 3 + channels))
    boxes, work, counts, labels = (
        torch.empty((batch, *shape), dtype=torch.int32, device=device)
        for shape in (
            (3, centres, 4),
            (6 if connected else 0, pixels),
            (chunks + 3,),
            (height, width),
        )
    )
    flags = zero, not alike, connected, start
    arguments = (
        *(colours, *map(np.int32, (channels, height, width)), *parameters, np.int32(alike)),
        *map(np.int32, (centres, iterations, *flags)),
        *(features, boxes, work, counts, np.int32(chunks), labels),
    )
    steps = (1 if alike else 2) * (1 + 2 * iterations) + (CONNECT_STEPS if connected else 1)
    blocks = _blocks(batch, height, width)
    each = steps if blocks == 1 else 1
    with on_stream_of(images):
        kernel = _kernels().get_function(f"slic_{'rgb' if channels == 3 else 'any'}")
        for step in range(0, steps, each):
            part = map(np.int32, (blocks, step, step + each))
            launch(kernel, batch * blocks, THREADS, *arguments, *part)
    return labels


def _blocks(batch: int, height: int, width: int) -> int:
    """Blocks that work on one image."""
    if batch >= MANY_IMAGES or height * width <= FEW_PIXELS:
        return 1
    return min(-(-height // TILE) * -(-width // TILE), 2**31 // batch - 1)


def _load(
    images: torch.Tensor, low: torch.Tensor, extent: torch.Tensor, lab: bool, scale: float
) -> torch.Tensor:
    """((v − low) / extent, in Lab if asked) · scale: float32 (B,C,H,W), contiguous."""
    out = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    blocks = min(-(-images.shape[0] * math.prod(images.shape[2:]) // THREADS), 1 << 16)
    suffix = "uint8" if images.dtype == torch.uint8 else "float"
    with on_stream_of(images):
        launch(
            *(_kernels().get_function(f"slic_load_{suffix}"), blocks, THREADS),
            *(images, *images.stride(), low, extent, np.int32(lab), np.float32(scale)),
            *(*map(np.int32, images.shape), out),
        )
    return out


def _kernels():
    return module("slic", "--fmad=false")


def smooth(colours: torch.Tensor, sigma: tuple[float, float]) -> torch.Tensor:
    """`_smooth.smooth` on the device: the sums in the order of SciPy's, in float64."""
    from scipy.ndimage import gaussian_filter1d

    for axis, width in ((2, np.float32(sigma[0])), (3, np.float32(sigma[1]))):
        if width <= 1e-15:
            continue
        reach, size = int(4 * float(width) + 0.5), colours.shape[axis]
        impulse = np.eye(1, 2 * reach + 1, reach)[0]
        weights = gaussian_filter1d(impulse, width, mode="constant").tolist()
        at = torch.arange(-reach, size + reach, device=colours.device) % (2 * size)
        at = torch.minimum(at, 2 * size - 1 - at)  # mirrored at the edges
        wide = colours.double().index_select(axis, at)
        total = wide.narrow(axis, reach, size) * weights[reach]
        for i in range(reach):
            ends = wide.narrow(axis, i, size) + wide.narrow(axis, 2 * reach - i, size)
            total = total + ends * weights[i]
        colours = total.float()
    return colours


@cache
def _kept(data: bytes, kind: str, device: torch.device) -> torch.Tensor:
    """On the device without a limit, as a captured CUDA graph needs it."""
    return torch.from_numpy(np.frombuffer(data, kind).copy()).to(device)
