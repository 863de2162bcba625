"""The definition of SLIC in plain NumPy, image by image; on any device by way of the host.

Everything is float32 and rounds after each operation, because ties and sums show it.
"""

from collections import deque

import numpy as np
import torch

from ._seeds import Seeds
from ._smooth import smooth

XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ],
    np.float32,
)
WHITE = np.array([0.95047, 1.0, 1.08883], np.float32)  # D65, 2°
NONE = -1  # label of a pixel that no centre has reached


def rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in 0 … 1 to CIE Lab: float32 (3,H,W)."""
    curve = np.power((np.maximum(rgb, 0) + np.float32(0.055)) / np.float32(1.055), np.float32(2.4))
    linear = np.where(rgb > np.float32(0.04045), curve, rgb / np.float32(12.92))
    xyz = np.moveaxis(np.moveaxis(linear, 0, -1) @ XYZ.T / WHITE, -1, 0)
    straight = np.float32(7.787) * xyz + np.float32(16 / 116)
    x, y, z = np.where(xyz > np.float32(0.008856), np.cbrt(xyz), straight)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def colours(image: np.ndarray, low: float, extent: float, lab: bool) -> np.ndarray:
    """(v − low) / extent, in Lab if asked: (C,H,W) → float32 (C,H,W)."""
    scaled = image.astype(np.float32) - np.float32(low)
    if extent:
        scaled /= np.float32(extent)
    return rgb_to_lab(scaled) if lab else scaled


class Clusters:
    """k-means of the pixels of one image, each centre within its window."""

    def __init__(self, colours: np.ndarray, mask: np.ndarray, seeds: Seeds, i: int) -> None:
        """`colours` (C,H,W) divided by the compactness, `mask` (H,W); image i of `seeds`."""
        self.colours, self.mask = colours, mask
        grid: np.ndarray = np.indices(mask.shape, np.float32)
        self.y, self.x = grid
        self.weight, self.reach = seeds.weight[i], seeds.reach[i].tolist()
        blank = np.zeros((len(seeds.at[i]), len(colours)), np.float32)
        self.centres = np.concatenate([seeds.at[i], blank], axis=1)  # (K,2+C)

    def run(self, iterations: int, by_colour: bool, zero: bool) -> np.ndarray:
        """Labels (H,W) after as many rounds; SLIC-zero weighs colours by their spread so far."""
        labels = np.full(self.mask.shape, NONE, np.int32)
        farthest = np.ones(len(self.centres), np.float32)
        for _ in range(iterations):
            self.assign(labels, by_colour, farthest if zero else None)
            self.update(labels)
            if zero:
                at = labels >= 0
                distance = self.colour_distance(self.colours[:, at], self.centres[labels[at]].T)
                np.maximum.at(farthest, labels[at], distance)
        return labels

    def assign(self, labels: np.ndarray, by_colour: bool, farthest: np.ndarray | None) -> None:
        """Each pixel to the nearest centre whose window it lies in, the first of equals."""
        best = np.where(self.mask, np.float32(np.inf), -np.float32(np.inf))
        for k in range(len(self.centres)):
            centre = self.centres[k]
            if np.isnan(centre[:2]).any():  # it has lost its pixels
                continue
            at = tuple(map(self.window, centre[:2], self.reach, self.mask.shape))
            dy, dx = centre[0] - self.y[at], centre[1] - self.x[at]
            distance = (dy * dy + dx * dx) * self.weight
            if by_colour:
                colour = self.colour_distance(self.colours[(slice(None), *at)], centre)
                distance += colour if farthest is None else colour / farthest[k]
            nearer = distance < best[at]
            best[at][nearer] = distance[nearer]
            labels[at][nearer] = k

    @staticmethod
    def window(centre: np.float32, reach: int, size: int) -> slice:
        first = max(centre - np.float32(reach), np.float32(0))
        beyond = min(centre + np.float32(reach) + np.float32(1), np.float32(size))
        return slice(int(first), int(beyond))

    @staticmethod
    def colour_distance(colours: np.ndarray, centres: np.ndarray) -> np.ndarray:
        """Σ_c (colour − centre)², channel by channel: colours (C,…), centres (2+C,…)."""
        total = np.zeros(colours.shape[1:], np.float32)
        for colour, centre in zip(colours, centres[2:], strict=True):
            total += (colour - centre) ** 2
        return total

    def update(self, labels: np.ndarray) -> None:
        """Each centre to its pixels' mean, summed one by one in raster order; NaN without any."""
        at = labels >= 0
        sums = np.zeros_like(self.centres)
        for i, values in enumerate((self.y, self.x, *self.colours)):
            np.add.at(sums[:, i], labels[at], values[at])
        members = np.bincount(labels[at], minlength=len(sums)).astype(np.float32)
        with np.errstate(invalid="ignore"):
            self.centres = sums / members[:, None]


def connect(labels: np.ndarray, least: int, most: int) -> np.ndarray:
    """Connected regions, numbered from 0 in raster order of their first pixels: (H,W) → (H,W).

    Each is flooded breadth first, up to `most` pixels; one of fewer than `least` joins the region
    that the flood has met last, if any.
    """
    height, width = labels.shape
    regions, region = np.full_like(labels, NONE), 0
    for first in np.argwhere(labels >= 0):
        y, x = first.tolist()
        if regions[y, x] != NONE:
            continue
        label, joined, pixels, queue = labels[y, x], region, [(y, x)], deque([(y, x)])
        regions[y, x] = region
        while queue and len(pixels) < most:
            y, x = queue.popleft()
            for at in ((y, x + 1), (y, x - 1), (y + 1, x), (y - 1, x)):
                if not (0 <= at[0] < height and 0 <= at[1] < width):
                    continue
                if labels[at] == label and regions[at] == NONE:
                    regions[at] = region
                    pixels.append(at)
                    queue.append(at)
                    if len(pixels) >= most:
                        break
                elif regions[at] not in (NONE, region):
                    joined = regions[at]
        if len(pixels) < least:
            regions[tuple(np.transpose(pixels))] = joined
        else:
            region += 1
    return regions


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
    """Labels (B,H,W) int32 from images (B,C,H,W) uint8 or float32, mask (B,H,W)."""
    labels = np.empty((len(images), *images.shape[2:]), np.int32)
    for i, image in enumerate(images.detach().cpu().numpy()):
        known = np.ones(image.shape[1:], bool) if mask is None else mask[i].cpu().numpy()
        values = colours(image, low[i], extent[i], lab)
        if max(sigma) > 0:
            values = smooth(values, sigma)
        values = np.where(known, values * np.float32(scale), 0)
        clusters = Clusters(values, known, seeds, i)
        if mask is not None:
            clusters.run(iterations, by_colour=False, zero=zero)
        found = clusters.run(iterations, by_colour=True, zero=zero)
        labels[i] = start + (connect(found, *seeds.sizes[i].tolist()) if connected else found)
    return torch.from_numpy(labels).to(images.device)
