"""The head that turns a feature map into one vector a region."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from ..checks import check_choice, check_int, check_ints, check_shape, check_tensor
from ..ops.region import RegionIndex, region_index, region_pool, region_resize, region_spp
from ..ops.region.embed import check_levels

__all__ = ["RegionEmbedding"]

HEADS = ("max", "mean", "spp", "resize")


class RegionEmbedding(nn.Module):
    """Embed each region of a feature map in a vector of fixed length, whatever its size and shape.

    The region-wise embedding (RWE) of Mirsadeghi et al., "Unsupervised Image Segmentation by Mutual
    Information Maximization and Adversarial Regularization" (InMARS, 2021, §III-B), in the
    variants of its Table III:

        "max", "mean"   `region_pool`, and no layers: the backbone's channels are the embedding
        "spp"           `region_spp`, then fully connected layers
        "resize"        `region_resize` ("interpolation"), then fully connected layers

    The paper leaves the fully connected layers open; here they are `hidden` layers with ReLU
    between, and a linear one.

    Args:
        in_channels: C, channels of the feature map.
        out_channels: D, length of the embedding; None means C, the only choice for "max", "mean".
        head: one of the above.
        hidden: widths of the layers between; may be empty.
        levels, fill: of `region_spp`.
        size: of `region_resize`.
        backend: of the operators.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        head: str = "spp",
        *,
        hidden: Sequence[int] = (256,),
        levels: Sequence[int] = (1, 2, 4),
        fill: float | None = 0.0,
        size: Sequence[int] = (8, 8),
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check_int("in_channels", in_channels, 1)
        check_choice("head", head, HEADS)
        if out_channels is not None:
            check_int("out_channels", out_channels, 1)
        check_ints("hidden", hidden, 1)
        check_levels(levels)
        check_ints("size", size, 1, 2)
        self.in_channels, self.out_channels = in_channels, out_channels or in_channels
        self.head, self.levels, self.fill, self.size = head, tuple(levels), fill, tuple(size)
        self.backend = backend
        self.layers = nn.Sequential()
        if head in ("max", "mean"):
            if self.out_channels != in_channels:
                raise ValueError(
                    f'`out_channels` must be `in_channels` ({in_channels}) for head "{head}", '
                    f"got {out_channels}"
                )
            return
        parts = sum(n * n for n in self.levels) if head == "spp" else self.size[0] * self.size[1]
        widths = [in_channels * parts, *hidden, self.out_channels]
        for before, after in pairwise(widths):
            self.layers.extend([nn.Linear(before, after), nn.ReLU()])
        del self.layers[-1]

    def forward(
        self,
        x: torch.Tensor,
        labels: torch.Tensor | RegionIndex,
        num_regions: int | None = None,
    ) -> torch.Tensor:
        """Embed the regions of `labels`.

        Args:
            x: (B,C,H,W), float.
            labels, num_regions: as in `region_pool`.

        Returns:
            (B,R,D); 0 where the region is empty.
        """
        check_tensor("x", x)
        check_shape("x", x, (None, self.in_channels, None, None))
        if not isinstance(labels, RegionIndex):
            labels = region_index(labels, num_regions, self.backend)  # type: ignore[arg-type]
        where = labels, num_regions
        if self.head in ("max", "mean"):
            return region_pool(x, *where, self.head, self.backend)
        if self.head == "spp":
            features = region_spp(x, *where, self.levels, self.fill, self.backend)
        else:
            features = region_resize(x, *where, self.size, self.backend).flatten(2)
        return self.layers(features).masked_fill((labels.counts == 0)[..., None], 0)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, head={self.head!r}"
