"""InfoSeg: Harb and Knöbelreiter, "InfoSeg: Unsupervised Semantic Image Segmentation with Mutual
Information Maximization", GCPR 2021."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from ..checks import check_choice
from ..data.base import Batch
from ..nn import InfoSegNet
from ..ops.joint import iic_loss
from ..ops.scoring import infoseg_loss, local_global_scores
from .base import Method
from .views import flip, jitter

__all__ = ["InfoSeg", "InfoSegConfig"]


@dataclass(frozen=True)
class InfoSegConfig:
    """The paper's, where it names a value."""

    lr: float = 1e-4
    batch_size: int = 64
    epochs: int = 100
    width: int = 64  #: of the network: channels of its first layer
    features: int = 1024  #: P, numbers in a local or global feature
    kernel: int = 3  #: of the last convolution of patches: 3 sees 18×18 pixels, 1 sees 10×10
    tau: float = 0.8  #: τ, the sharpness of the assignment
    objective: Literal["jsd", "dv", "iic"] = "jsd"  #: bounds of local and global features, or IIC's
    assignment: Literal["soft", "hard"] = "soft"  #: of features to classes, with "jsd" and "dv"
    lamb: float = 1.5  #: λ of objective "iic"
    radius: int = 2  #: T of objective "iic", in patches of 4 pixels
    colours: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.125)
    """Brightness, contrast, saturation and hue: how far the second view of "iic" changes them."""
    flips: float = 0.5  #: share of these second views that are mirrored
    backend: str = "auto"  #: of the operators


class InfoSeg(Method):
    """Features of the whole picture, one for each class, that say most of those of the patches
    which are like them.

    The paper names neither how long it trains nor views of its own: pictures come cut and mirrored
    as the data set's geometry says. Objective "iic" is the ablation of §5.5: IIC's loss on the
    class probabilities V of two views, in the configuration for COCO-Stuff-3. Patches count as far
    as their pixels are valid.
    """

    Config = InfoSegConfig
    variants = ("nearest", "bilinear")  # how V is enlarged; the paper enlarges labels
    multiple = InfoSegNet.multiple

    def __init__(self, config: InfoSegConfig, channels: int, classes: int) -> None:
        super().__init__(config, channels, classes)
        check_choice("objective", config.objective, ("jsd", "dv", "iic"))
        sizes = config.width, config.features, config.kernel
        self.network = InfoSegNet(channels, classes, *sizes)

    def loss(self, batch: Batch, progress: float, group: Any = None) -> dict[str, torch.Tensor]:
        """−Î(L;S) (Eq. 8), over the pairs of pictures of all ranks, or −I(V;V′)."""
        config = self.config
        weights = F.avg_pool2d(batch.valid[:, None].float(), self.multiple)[:, 0]
        if config.objective != "iic":
            local, glob = self.network(batch.images)
            way = config.tau, config.objective, config.assignment
            return {"loss": infoseg_loss(local, glob, *way, weights=weights, group=group)}
        other = flip(jitter(batch.images, batch.seeds, *config.colours), batch.seeds, config.flips)
        p, q = self._probabilities(batch.images), self._probabilities(other)
        q, mask = flip(q, batch.seeds, config.flips), weights > 0.5
        return {
            "loss": iic_loss(
                p, q, config.radius, config.lamb, mask, group=group, backend=config.backend
            )
        }

    def _probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """V (Eq. 3): (B,K,M/4,N/4)."""
        return (self.config.tau * local_global_scores(*self.network(images))).softmax(1)

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        p = self._probabilities(batch.images)
        return {
            mode: F.interpolate(p, batch.images.shape[2:], mode=mode).argmax(1)
            for mode in self.variants
        }
