"""InMARS: Mirsadeghi et al., "Unsupervised Image Segmentation by Mutual Information Maximization
and Adversarial Regularization", RA-L 2021."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ..checks import check_choice
from ..data.base import Batch
from ..nn import (
    RegionEmbedding,
    class_entropies,
    frozen_statistics,
    kl_consistency,
    virtual_adversarial,
)
from ..ops.region import RegionIndex, region_index, region_unpool
from .base import Method
from .networks import RegionNetwork, backbone
from .views import gaussian, random_affine, warp, warp_labels

__all__ = ["InMARS", "InMARSConfig"]


@dataclass(frozen=True)
class InMARSConfig:
    """The paper's, where it names a value."""

    lr: float = 1e-5
    decay: float = 0.96  #: of the learning rate, each epoch
    batch_size: int = 16
    epochs: int = 100
    backbone: Literal["hourglass", "unet"] = "hourglass"
    width: int = 64  #: of the backbone
    stride: int = 1  #: of the hourglass; 4 with width 256 is the original one
    head: Literal["max", "mean", "spp", "resize"] = "spp"
    hidden: tuple[int, ...] = (256,)  #: widths of the head's layers
    segments: Literal["n", "2n", "nn"] = "2n"  #: superpixels in training: N_gt, 2·N_gt, N_gt²
    finer: int = 1  #: times as many superpixels as these
    compactness: float = 5.0
    regulariser: Literal["none", "adv", "geo", "both"] = "both"  #: Table IV
    lamb: float = 4.0  #: λ
    gamma: tuple[float, float] = (1.0, 0.1)  #: γ at the start and at the end
    prior: tuple[float, ...] = ()  #: q, how frequent each class is; none: all alike
    epsilon: float = 0.25  #: ε, the norm of the adversarial noise
    geo_scale: float = 0.2  #: up to 1.2 times larger or smaller
    geo_translate: float = 0.1  #: share of the side
    geo_rotate: float = 10.0  #: degrees
    geo_shear: float = 10.0  #: degrees
    backend: str = "auto"  #: of the operators


class InMARS(Method):
    """Superpixels, clustered by a network that maximises the mutual information of pictures and
    clusters and predicts the same under adversarial noise and affine maps."""

    Config = InMARSConfig
    variants = ("superpixel", "backbone", "multiscale")  # InMARS, InMARSᵇ, InMARS⁺
    prior: torch.Tensor | None

    def __init__(self, config: InMARSConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        check_choice("regulariser", config.regulariser, ("none", "adv", "geo", "both"))
        check_choice("segments", config.segments, ("n", "2n", "nn"))
        if len(config.prior) not in (0, classes):
            raise ValueError(
                f"`prior` must have a value for each of {classes} classes, got {len(config.prior)}"
            )
        # As many channels as classes, so that the backbone alone tells clusters apart, too.
        body = backbone(config.backbone, channels, classes, config.width, config.stride)
        head = RegionEmbedding(
            classes, classes, config.head, hidden=config.hidden, backend=config.backend
        )
        self.network = RegionNetwork(body, head)
        self.multiple = body.multiple
        prior = torch.tensor(config.prior) if config.prior else None
        self.register_buffer("prior", prior, persistent=False)

    @property
    def superpixels(self) -> Sequence[dict[str, Any]]:
        n, config = self.classes, self.config
        counts = {"n": n, "2n": 2 * n, "nn": n * n}
        first = counts.pop(config.segments)
        return [
            {"n_segments": config.finer * count, "compactness": config.compactness}
            for count in (first, *counts.values())
        ]

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """L_R + λ·(H(Y|X) − γ·H(Y)) (Eq. 6), over the superpixels that have valid pixels."""
        labels = batch.superpixels[0].masked_fill(~batch.valid, -1)
        regions = self._index(labels, batch.regions[0])
        scores = self.network(batch.images, regions)  # (B,K,R)
        there = regions.counts > 0
        entropies = class_entropies(scores.softmax(1), self.prior, there, group)
        first, last = self.config.gamma
        gamma = first + (last - first) * progress
        parts = self._regularisers(batch, regions, scores.detach(), there, group)
        regulariser = sum(parts.values()) / max(1, len(parts))
        information = entropies.conditional - gamma * entropies.marginal
        return {
            "loss": regulariser + self.config.lamb * information,
            "marginal": entropies.marginal.detach(),
            "conditional": entropies.conditional.detach(),
            **{name: part.detach() for name, part in parts.items()},
        }

    def _index(self, labels: torch.Tensor, count: int) -> RegionIndex:
        return region_index(labels, max(1, count), self.config.backend)

    def _regularisers(
        self, batch: Batch, regions: RegionIndex, scores: torch.Tensor, there: torch.Tensor, group
    ) -> dict[str, torch.Tensor]:
        """R_adv and R_geo (Eq. 4, 5), as far as they are asked for."""
        config, parts = self.config, {}
        if config.regulariser in ("adv", "both"):
            parts["adv"] = virtual_adversarial(
                self.network,
                batch.images,
                scores,
                (regions,),
                there,
                config.epsilon,
                direction=gaussian(batch.seeds, batch.images),
                group=group,
            )
        if config.regulariser in ("geo", "both"):
            affine = random_affine(
                batch.seeds,
                batch.images.shape[2:],
                config.geo_scale,
                config.geo_translate,
                config.geo_rotate,
                config.geo_shear,
            )
            labels = warp_labels(regions.labels, affine)
            moved = region_index(labels, regions.num_regions, config.backend)
            with frozen_statistics(self.network):
                seen = self.network(warp(batch.images, affine), moved)
            # Superpixels that have left the frame are left out.
            parts["geo"] = kl_consistency(scores, seen, there & (moved.counts > 0), group)
        return parts

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        features = self.network.backbone(batch.images)
        maps = []
        for labels, count in zip(batch.superpixels, batch.regions, strict=True):
            regions = self._index(labels, count)
            p = self.network.head(features, regions).softmax(2)
            maps.append(region_unpool(p, regions, self.config.backend))
        return {
            "superpixel": maps[0].argmax(1),
            "backbone": features.argmax(1),
            "multiscale": torch.stack(maps).mean(0).argmax(1),
        }
