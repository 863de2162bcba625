"""The network of InfoSeg (Harb and Knöbelreiter, "InfoSeg", GCPR 2021, Fig. 3)."""

from collections.abc import Sequence

import torch
from torch import nn

from ..checks import check_int, check_shape, check_tensor

__all__ = ["InfoSegNet"]


def convs(channels: int, layers: Sequence[tuple[int, int, int]], padding: int) -> nn.Sequential:
    """Convolutions of (channels, size, stride), each with batch norm and ReLU."""
    out = nn.Sequential()
    for after, size, stride in layers:
        conv = nn.Conv2d(channels, after, size, stride, padding, bias=False)
        out.extend([conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)])
        channels = after
    return out


class Pointwise(nn.Module):
    """Block C, a residual block of 1×1 convolutions, up to its last sum: Wz is its output.

    z = (relu(W₁x + b), x), W = (W₂, W₃) with the shortcut W₃.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.inside = nn.Linear(channels, features)
        self.outside = nn.Linear(features + channels, features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…,C) → z (…,P+C)."""
        return torch.cat((self.inside(x).relu(), x), -1)


class InfoSegNet(nn.Module):
    """Local features L of patches and global features H of classes, whose products are scores.

        L = C(A(x))            (B,P,U,V), a quarter of the picture's resolution
        H_k = D_k(C'(B(A(x)))) (B,K,P)

    The paper's text says what the blocks are for, that C and C' are residual blocks of 1×1
    convolutions with weights of their own, D_k linear layers, the stride 4 and P 1024; the sizes
    are in its figure alone. Chosen here, after the Deep InfoMax that the paper builds upon (Hjelm
    et al., ICLR 2019):

        A   convolutions 4×4, w, stride 2 · 4×4, 2w, stride 2 · n×n, 4w; batch norm and ReLU after
            each. A feature sees 18×18 pixels with n = 3, and 10×10 with n = 1. The picture is
            padded once, by its outermost pixels, so that no feature tells where the border is.
        B   3×3, 4w, stride 2 · 3×3, 8w, stride 2, likewise; the mean over what is left.
        C   W₂·relu(W₁x + b) + W₃x, P numbers wide inside, too. Its output has no bias and no ReLU,
            so that scores have either sign.

    L need not be computed. With C's output Wz, ⟨Wz,H_k⟩ = ⟨z,WᵀH_k⟩: a product for each class in
    place of P for each patch. So `forward` gives z and WᵀH, and `features` L and H.

    Args:
        in_channels: of the images.
        classes: K.
        width: w.
        features: P.
        kernel: n, odd.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    multiple = 4  #: what both sides of the images must be divisible by

    def __init__(
        self,
        in_channels: int,
        classes: int,
        width: int = 64,
        features: int = 1024,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "classes": classes, "width": width}
        for name, value in {**sizes, "features": features}.items():
            check_int(name, value, 1)
        check_int("kernel", kernel, 1, odd=True)
        self.in_channels, self.classes = in_channels, classes
        layers = [(width, 4, 2), (2 * width, 4, 2), (4 * width, kernel, 1)]
        border = nn.ReplicationPad2d(1 + 2 * kernel)
        self.patches = nn.Sequential(border, *convs(in_channels, layers, padding=0))
        self.picture = convs(4 * width, [(4 * width, 3, 2), (8 * width, 3, 2)], padding=1)
        self.local = Pointwise(4 * width, features)
        self.glob = Pointwise(8 * width, features)
        self.heads = nn.Linear(features, classes * features)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B,C,M,N), sides divisible by 4 → (B,D,M/4,N/4), (B,K,D) for `fastseg.infoseg_loss` and
        `fastseg.local_global_scores`, with D = P + 4w."""
        z, heads = self._parts(x)
        return z, heads @ self.local.outside.weight

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B,C,M,N) → L (B,P,M/4,N/4), H (B,K,P)."""
        z, heads = self._parts(x)
        return self.local.outside(z.movedim(1, -1)).movedim(-1, 1), heads

    def _parts(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """z and H."""
        check_tensor("x", x)
        check_shape("x", x, (None, self.in_channels, None, None))
        height, width = x.shape[2:]
        if height % 4 or width % 4 or not height or not width:
            raise ValueError(
                f"`x` must have a height and a width divisible by 4, got {height}×{width}"
            )
        # Channels last, so that 1×1 convolutions are products of matrices as they lie.
        patches = self.patches(x.contiguous(memory_format=torch.channels_last))
        z = self.local(patches.movedim(1, -1)).movedim(-1, 1)
        picture = self.glob(self.picture(patches).mean((2, 3)))
        return z, self.heads(self.glob.outside(picture)).unflatten(1, (self.classes, -1))
