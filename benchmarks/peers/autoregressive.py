"""AC's network as a user would write it: pad, mask the weights, convolve; attention with its mask
stored; the whole network for each view."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fastseg.nn import AutoregressiveNet, OrderedAttention
from fastseg.orderings import attention_mask, turn

Masks = dict[int, tuple[torch.Tensor, torch.Tensor]]


def masks(
    height: int,
    width: int,
    orderings: Sequence[int],
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Masks:
    """By ordering: of a 3×3 convolution, and what attention must not see, made once."""
    first = torch.ones(3, 3)
    first[2, 2] = 0
    return {
        o: (turn(first, o).to(device, dtype), ~attention_mask(height, width, o).to(device))
        for o in orderings
    }


def convolve(x: torch.Tensor, conv: nn.Conv2d, mask: torch.Tensor, ordering: int) -> torch.Tensor:
    """Orderings 1 … 4 and 5 … 8 shift down, to the right, up, to the left, in this order."""
    left, right, top, bottom = [
        (1, 1, 2, 0), (2, 0, 1, 1), (1, 1, 0, 2), (0, 2, 1, 1),
    ][(ordering - 1) % 4]  # fmt: skip
    x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, conv.weight * mask, conv.bias)


def encode_block(block: Any, x: torch.Tensor, mask: torch.Tensor, ordering: int) -> torch.Tensor:
    inside = block.dropout(F.relu(convolve(x, block.conv1, mask, ordering)))
    return F.relu(convolve(inside, block.conv2, mask, ordering) + block.shortcut(x))


def attend(attention: OrderedAttention, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    tokens = x.flatten(2)  # (B,C,N)
    q, k, v = (w @ tokens for w in attention.qkv.weight.chunk(3))
    logits = q.mT @ k / math.sqrt(q.shape[1])
    seen = v @ logits.masked_fill(hidden, -math.inf).softmax(-1).mT  # (B,d,N)
    projected = (attention.project.weight @ seen).unflatten(2, x.shape[2:])
    joined = torch.cat((projected, x), 1)
    return F.conv2d(joined, attention.merge.weight[..., None, None], attention.merge.bias)


def forward(net: AutoregressiveNet, x: torch.Tensor, ordering: int, kept: Masks) -> torch.Tensor:
    """`net(x, ordering)`, its attention of one head."""
    of_weights, hidden = kept[ordering]
    y = net.extractor(x)
    for i, block in enumerate(net.blocks):
        y = encode_block(block, y, of_weights, ordering)
        if i == 0 and net.attention is not None:
            y = attend(net.attention, y, hidden)
    scores = net.decoder(y)
    return F.interpolate(scores, x.shape[2:], mode="bilinear", align_corners=False)
