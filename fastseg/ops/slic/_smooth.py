"""The blur that may precede the clustering."""

import numpy as np


def smooth(colours: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
    """Gaussian blur of each plane, cut off at 4σ, the image mirrored: float32 (…,H,W)."""
    from scipy.ndimage import gaussian_filter

    widths = (0.0,) * (colours.ndim - 2) + tuple(np.float32(s) for s in sigma)
    return gaussian_filter(colours, widths, mode="reflect")
