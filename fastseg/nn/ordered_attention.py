"""The attention block of AC."""

import torch
import torch.nn.functional as F
from torch import nn

from ..checks import check_int, check_shape, check_tensor
from ..ops.attention import ordered_attention
from ..ops.attention._order import reorder
from ..orderings import check_ordering

__all__ = ["OrderedAttention"]


class OrderedAttention(nn.Module):
    """Attention in the order of a scan beside the features themselves, then merged (Ouali et al.,
    "Autoregressive Unsupervised Image Segmentation", ECCV 2020, §3.1, Eq. 2).

        Q, K, V = X·W_q, X·W_k, X·W_v;  A = `ordered_attention`(Q, K, V)
        out = merge(A·W_O ‖ X), where ‖ joins channels and merge is a 1×1 convolution

    All maps but the attention are of each pixel by itself, so the pixels are put in order once, on
    entry, and back once, on leaving. W_O and the merge are one map from A, and nothing is joined in
    memory. The ordering is an argument of the call, else that of `use_ordering`, else 0.

    Args:
        in_channels: C.
        channels: d, of queries, keys and values together over the heads; C if None.
        heads: `channels` must be a multiple of it. The paper has one.
        out_channels: of the merge; C if None.
        backend: of `ordered_attention`; "auto" is PyTorch's own attention in ordering 0.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int | None = None,
        heads: int = 1,
        out_channels: int | None = None,
        *,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        channels = in_channels if channels is None else channels
        out_channels = in_channels if out_channels is None else out_channels
        check_int("in_channels", in_channels, 1)
        check_int("channels", channels, 1)
        check_int("heads", heads, 1)
        check_int("out_channels", out_channels, 1)
        if channels % heads:
            raise ValueError(f"`channels` must be a multiple of `heads` ({heads}), got {channels}")
        self.in_channels, self.channels, self.heads = in_channels, channels, heads
        self.out_channels = out_channels
        self.qkv = nn.Linear(in_channels, 3 * channels, bias=False)
        self.project = nn.Linear(channels, in_channels, bias=False)
        self.merge = nn.Linear(2 * in_channels, out_channels)
        self.ordering, self.backend = 0, backend

    def forward(self, x: torch.Tensor, ordering: int | None = None) -> torch.Tensor:
        """Let each pixel see those before it in `ordering`, or in the layer's own if that is None.

        Args:
            x: (B,C,H,W), float.
            ordering: from 0 to 16, see `fastseg.orderings`.

        Returns:
            (B,out_channels,H,W), contiguous or channels last as `x` is.
        """
        check_tensor("x", x)
        check_shape("x", x, (None, self.in_channels, None, None))
        ordering = self.ordering if ordering is None else ordering
        check_ordering(ordering)
        height, width = x.shape[2:]
        place = height, width, ordering
        tokens = reorder(x.flatten(2).mT, *place)  # (B,N,C)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        ordinary = ordering == 0 and self.backend == "auto"
        backend = "torch" if ordinary else self.backend
        seen = ordered_attention(q, k, v, height, width, min(ordering, 1), backend=backend)
        attended, own = self.merge.weight.split(self.in_channels, 1)
        out = F.linear(tokens, own, self.merge.bias)
        out = out + F.linear(seen.transpose(1, 2).flatten(2), attended @ self.project.weight)
        out = reorder(out, *place, back=True).mT.unflatten(2, (height, width))
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        return out if last else out.contiguous()

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.channels}, heads={self.heads}"
