"""What a user could run instead of `fastseg.slic`: images (B,3,H,W) float32 → labels (B,H,W).

All convert to Lab, run 10 iterations and make superpixels connected. OpenCV's SLIC has no grid of
centres but a region size, and takes uint8; its labels are its own.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import torch
from skimage.segmentation import slic

HAS_OPENCV = hasattr(cv2, "ximgproc")  # of the contrib build


def scikit_image(images: torch.Tensor, count: int) -> torch.Tensor:
    return _each(partial(slic, n_segments=count, start_label=0), images)


def opencv(images: torch.Tensor, count: int) -> torch.Tensor:
    size = round((images.shape[2] * images.shape[3] / count) ** 0.5)
    return _each(partial(_opencv, size=size), images)


def _opencv(image: np.ndarray, size: int) -> np.ndarray:
    ximgproc = cv2.ximgproc
    lab = cv2.cvtColor(np.rint(image * 255).astype(np.uint8), cv2.COLOR_RGB2LAB)
    found = ximgproc.createSuperpixelSLIC(lab, ximgproc.SLIC, size, 10.0)
    found.iterate(10)
    found.enforceLabelConnectivity(25)
    return found.getLabels()


def _each(run, images: torch.Tensor) -> torch.Tensor:
    """`run` on every image (H,W,3), one a thread: both let go of Python's lock."""
    cv2.setNumThreads(torch.get_num_threads() if len(images) == 1 else 1)
    pictures = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        labels = list(pool.map(run, pictures))
    return torch.from_numpy(np.stack(labels).astype(np.int32))
