"""What a user could run instead of `fastseg.iem`: every loop here takes and gives the same.

    images (B,C,H,W) uint8, init (B,1,H,W) bool, iterations → masks (B,1,H,W) bool

They follow `fastseg.iem` at its defaults, but for stopping in a 2-cycle.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib.util import find_spec
from multiprocessing import get_context

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

SIGMA, TAPS, EPSILON, LAMBDA = 5.0, 11, 1e-8, 1e-3
HAS_CUPY = find_spec("cupyx") is not None


def kernel() -> np.ndarray:
    """The normalised Gaussian of one pass: float32 (TAPS,)."""
    weights = np.exp(-0.5 * ((np.arange(TAPS) - TAPS // 2) / SIGMA) ** 2)
    return (weights / weights.sum()).astype(np.float32)


# --- The published program's structure ---------------------------------------------------------


def published(images: torch.Tensor, init: torch.Tensor, iterations: int) -> torch.Tensor:
    """Autograd through 16 grouped 1-D convolutions an iteration, in eager PyTorch.

    Image and mask × foreground and background × 2 passes × 2 axes, the whole batch at once. It
    always runs all iterations and never looks at its data, so a GPU need not wait for the host.
    """
    x = images.float() / 127.5 - 1
    mask = init.float()
    taps, cross, box = _weights(x.device)
    for _ in range(iterations):
        mask.requires_grad_()
        (grad,) = torch.autograd.grad(_objective(x, mask, taps).sum(), mask)
        with torch.no_grad():
            mask = mask.detach()
            inner = mask * F.conv2d(mask, cross, padding=1)
            inner = inner + (1 - mask) * F.conv2d(1 - mask, cross, padding=1)
            update = (inner < 4) & (grad != 0)
            mask = torch.where(update, (grad > 0).float(), mask)
            mask = (F.conv2d(mask, box, padding=1) >= 4).float()
    return mask.bool()


@cache
def _weights(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The Gaussian, the 4-neighbours and the 3×3 pixels, uploaded once: a CUDA graph may not."""
    cross = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]], device=device).view(1, 1, 3, 3)
    taps = torch.from_numpy(kernel()).to(device).view(1, 1, TAPS, 1)
    return taps, cross, torch.ones(1, 1, 3, 3, device=device)


def _objective(x: torch.Tensor, mask: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    objective = x.new_zeros(len(x))
    for layer, rest in ((mask, 1 - mask), (1 - mask, mask)):
        painted = _blur(x * rest, taps) / _blur(rest, taps)
        miss = (x - painted).abs().mean(1, keepdim=True)
        mean = (layer * x).sum((2, 3), keepdim=True) / layer.sum((2, 3), keepdim=True)
        spread = (layer * (x - mean) ** 2).sum((1, 2, 3))
        area = layer.sum((1, 2, 3))
        objective = objective + (layer * miss).sum((1, 2, 3)) / area - LAMBDA * spread
    return objective


def _blur(planes: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    return _filter(planes, taps) + EPSILON * planes.sum((2, 3), keepdim=True)


def _filter(planes: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    channels, radius = planes.shape[1], TAPS // 2
    weights = taps.expand(channels, -1, -1, -1)
    for _ in range(2):
        planes = F.conv2d(planes, weights, padding=(radius, 0), groups=channels)
        planes = F.conv2d(planes, weights.transpose(2, 3), padding=(0, radius), groups=channels)
    return planes


# --- The filter alone: (B,C,H,W) float32 → the same ---------------------------------------------


def conv_filter(x: torch.Tensor) -> torch.Tensor:
    """Four grouped 1-D convolutions."""
    return _filter(x, _weights(x.device)[0])


def scipy_filter(x: torch.Tensor) -> torch.Tensor:
    """`scipy.ndimage.convolve1d`, in double precision inside."""
    planes = x.numpy()
    for axis in (2, 3, 2, 3):
        planes = ndimage.convolve1d(planes, kernel(), axis, mode="constant")
    return torch.from_numpy(planes)


def cupyx_filter(x: torch.Tensor) -> torch.Tensor:
    """CuPy's copy of it."""
    import cupy
    from cupyx.scipy import ndimage as on_gpu

    with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
        planes, weights = cupy.from_dlpack(x), cupy.asarray(kernel())
        for axis in (2, 3, 2, 3):
            planes = on_gpu.convolve1d(planes, weights, axis, mode="constant")
        return torch.from_dlpack(planes)


# --- The best loop around a library's filters --------------------------------------------------


CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
ZERO = {"borderType": cv2.BORDER_CONSTANT}  # for filters the constant is 0


class OpenCVFilters:
    """Planes go through `sepFilter2D` interleaved, as pixels of C+1 values: the fastest layout.

    Two passes of 11 taps, because zeros enter at the edge of each: one pass of their 21 combined
    taps gives other values there, and takes 0.9 times as long.
    """

    def __init__(self, planes: int, height: int, width: int) -> None:
        self.taps = kernel()
        # One float off alignment, so that `merge` does not write past the cache: 0.75 of the time.
        buffer = np.empty(height * width * planes + 1, np.float32)[1:]
        self.pixels = buffer.reshape(height, width, planes)

    def blur(self, planes: np.ndarray) -> np.ndarray:
        """K * each plane, ε apart: (C+1,H,W) → (H·W,C+1), until the next call."""
        pixels = self.pixels
        cv2.merge(list(planes), pixels)
        for _ in range(2):
            cv2.sepFilter2D(pixels, cv2.CV_32F, self.taps, self.taps, pixels, **ZERO)
        return pixels.reshape(-1, len(planes))

    def split(self, pixels: np.ndarray, planes: np.ndarray) -> None:
        """(H·W,C+1) → (C+1,H,W)."""
        cv2.split(pixels.reshape(self.pixels.shape), list(planes))

    def inner(self, mask: np.ndarray) -> np.ndarray:
        """Pixels whose 4-neighbours are all 1, and they themselves: (H,W) uint8."""
        return cv2.erode(mask, CROSS, borderValue=0, **ZERO)

    def box_sum(self, mask: np.ndarray) -> np.ndarray:
        """Sums of 3×3 pixels: (H,W) uint8."""
        return cv2.boxFilter(mask, -1, (3, 3), normalize=False, **ZERO)


class SciPyFilters:
    """`scipy.ndimage.convolve1d` along each axis of the stack of planes; methods as above."""

    def __init__(self, planes: int, height: int, width: int) -> None:
        self.taps = kernel()
        self.one, self.two = np.empty((2, planes, height, width), np.float32)

    def blur(self, planes: np.ndarray) -> np.ndarray:
        source = planes
        for _ in range(2):
            ndimage.convolve1d(source, self.taps, 1, self.one, mode="constant")
            ndimage.convolve1d(self.one, self.taps, 2, self.two, mode="constant")
            source = self.two
        return self.two.reshape(len(planes), -1).T

    def split(self, pixels: np.ndarray, planes: np.ndarray) -> None:
        planes[:] = pixels.T.reshape(planes.shape)

    def inner(self, mask: np.ndarray) -> np.ndarray:
        out = mask.copy()
        out[[0, -1]] = out[:, [0, -1]] = 0
        out[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        return out

    def box_sum(self, mask: np.ndarray) -> np.ndarray:
        rows = mask.copy()
        rows[1:] += mask[:-1]
        rows[:-1] += mask[1:]
        out = rows.copy()
        out[:, 1:] += rows[:, :-1]
        out[:, :-1] += rows[:, 1:]
        return out


SIGN_BIT = np.int32(-(2**31))


def gather(planes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(C,H,W), (N,) → (C,N)."""
    return planes.reshape(len(planes), -1).take(at, 1)


def plane_sums(planes: np.ndarray) -> np.ndarray:
    """(C,H,W) → (C,), in a third of the time of `sum`."""
    return np.einsum("cp->c", planes.reshape(len(planes), -1))


class Climb:
    """Gradient ascent on one image in float32, its gradient by hand: x (C,H,W) in [−1,1].

    With σ = ±1 on foreground and background, D = K*(σx) and T = K*x, the blurred layers are
    (T±D)/2: so C+1 planes are filtered forward and C+1 back, half of what autograd filters. The
    price is precision far from a layer, where ±D cancels T.
    """

    def __init__(self, filters: type, x: np.ndarray) -> None:
        shape = x.shape[0] + 1, *x.shape[1:]
        self.filters = filters(*shape)
        self.x = np.concatenate([x, np.ones_like(x[:1])])
        self.sums = plane_sums(self.x)
        self.total, self.signed, self.other, self.work = np.empty((4, *shape), np.float32)
        self.sigma, self.scale = np.empty((2, *shape[1:]), np.float32)
        self.filters.split(self.filters.blur(self.x), self.total)
        self.total += (EPSILON * self.sums)[:, None, None]

    def run(self, mask: np.ndarray, iterations: int, stop_early: bool) -> np.ndarray:
        """The mask (H,W) uint8 after `iterations`, or at the fixed point before."""
        for _ in range(iterations):
            after = self.update(mask)
            if not after.any() or after.all() or (stop_early and np.array_equal(after, mask)):
                break
            mask = after
        return mask

    def update(self, mask: np.ndarray) -> np.ndarray:
        inner = self.filters.inner(mask) | self.filters.inner(1 - mask)
        at = np.flatnonzero(inner == 0)
        grad = self.gradient(mask, at)
        after = mask.copy()
        after.reshape(-1)[at] = np.where(grad == 0, mask.reshape(-1)[at], grad > 0)
        return (self.filters.box_sum(after) >= 4).view(np.uint8)

    def gradient(self, mask: np.ndarray, at: np.ndarray) -> np.ndarray:
        """dL/dM at the pixels `at` (N,), each an index into H·W."""
        x, signed, other, work, sigma = self.x, self.signed, self.other, self.work, self.sigma
        fore = int(np.count_nonzero(mask))
        a, b, channels = 1 / fore, 1 / (mask.size - fore), len(x) - 1
        np.multiply(mask, np.float32(2), out=sigma)
        sigma -= 1

        # other = T − σD, twice the other layer blurred; signed = σD
        np.multiply(x, sigma, out=work)
        sums = plane_sums(work)
        self.filters.split(self.filters.blur(work), signed)
        signed += (EPSILON * sums)[:, None, None]
        signed *= sigma
        np.subtract(self.total, signed, out=other)
        own = gather(self.total, at) + gather(signed, at)

        # ψ in place of the colours, the residual x − ψ in `work`, its magnitude in `signed`
        colours, w, scale = other[:-1], work[:-1], self.scale
        colours /= other[-1]
        np.subtract(x[:-1], colours, out=w)
        miss = np.abs(w, out=signed[:-1]).sum(0)

        # w = sign(x − ψ) · (a on foreground, −b on background) / (K*m · C); then −Σ w ψ
        np.multiply(sigma, np.float32((a + b) / channels), out=scale)
        scale += np.float32((a - b) / channels)
        scale /= other[-1]
        bits = w.view(np.int32)
        bits &= SIGN_BIT
        bits ^= scale.view(np.int32)
        colours *= w
        np.negative(colours.sum(0), out=work[-1])

        sums_w = plane_sums(work)
        here = gather(x, at)
        adjoint = self.filters.blur(work)[at].T + (EPSILON * sums_w)[:, None]
        grad = (here * adjoint).sum(0)

        # The layers' own terms: mean errors, and deviations from the mean colours.
        is_fore = mask.reshape(-1)[at] == 1
        other_miss = miss.reshape(-1)[at]
        own_miss = np.abs(here[:-1] - own[:-1] / own[-1]).sum(0)
        total, difference = miss.sum(), (miss * sigma).sum()
        miss_fore, miss_back = (total + difference) / 2 * a, (total - difference) / 2 * b
        grad += (np.where(is_fore, other_miss, own_miss) - miss_fore) * (a / channels)
        grad -= (np.where(is_fore, own_miss, other_miss) - miss_back) * (b / channels)
        mean_fore, mean_back = (self.sums + sums)[:-1] / 2 * a, (self.sums - sums)[:-1] / 2 * b
        grad -= LAMBDA * (2 * (mean_back - mean_fore) @ here[:-1])
        grad -= LAMBDA * (mean_fore @ mean_fore - mean_back @ mean_back)
        return grad


@cache
def workers(count: int) -> ProcessPoolExecutor:
    """Processes: threads would wait for Python's lock at every other array operation."""
    return ProcessPoolExecutor(count, get_context("spawn"), cv2.setNumThreads, (1,))


def filter_loop(
    images: torch.Tensor, init: torch.Tensor, iterations: int, filters: type, stop_early: bool
) -> torch.Tensor:
    """`climb` on every image, as many at once as PyTorch has threads."""
    run = partial(climb, filters=filters, iterations=iterations, stop_early=stop_early)
    masks = workers(torch.get_num_threads()).map(run, images.numpy(), init[:, 0].numpy())
    return torch.from_numpy(np.stack(list(masks))[:, None])


def climb(
    image: np.ndarray, init: np.ndarray, filters: type, iterations: int, stop_early: bool
) -> np.ndarray:
    """One image (C,H,W) uint8 from its initial mask (H,W) bool to its last."""
    x = image.astype(np.float32) / np.float32(127.5) - 1
    return Climb(filters, x).run(init.view(np.uint8), iterations, stop_early).view(bool)
