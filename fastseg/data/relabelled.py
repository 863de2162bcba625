"""Pictures with labels that a method has made."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .base import Dataset, Sample
from .geometry import Geometry, resize_image

__all__ = ["Relabelled"]


class Relabelled(Dataset):
    """Some pictures of a data set, as evaluation sees them, with other labels.

    Args:
        dataset: the pictures; its own labels are left behind.
        geometry: brings them to the size of `labels`.
        labels: by a picture's place in the data set: (H,W), the picture at the top left.
    """

    def __init__(
        self, dataset: Dataset, geometry: Geometry, labels: Mapping[int, np.ndarray]
    ) -> None:
        self.dataset, self.window = dataset, geometry
        self.places, self.maps = list(labels), list(labels.values())
        highest = max((labels.max(initial=0) for labels in self.maps), default=0)
        self.classes = [str(label) for label in range(1 + highest)]
        self.channels = dataset.channels
        self.geometry = replace(geometry, scale=1.0, short=None)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        key, image, _ = self.dataset[self.places[index]]
        size = self.window.resized(*image.shape[:2])
        image = self.window.window(*size, None).cut(resize_image(image, *size), 0)
        height, width = image.shape[:2]
        return Sample(key, image, self.maps[index][:height, :width])
