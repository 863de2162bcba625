"""CPU launchers of csrc/attention.h."""

import math
from typing import Any

import torch
import torch.nn.functional as F

from ... import _native
from ._order import reorder

BLOCK, WHOLE = 96, 16  # of rows and of their length, see csrc/attention.h
# Shares of the keys, whatever the number of threads, whose gradients of q are summed apart.
LEAST_TASKS = 4


def _padded(x: torch.Tensor, height: int, width: int, ordering: int) -> torch.Tensor:
    """(B,heads,N,d) → (B·heads,rows,length), in order, at least float32."""
    x = reorder(x.detach(), height, width, ordering).flatten(0, 1)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return F.pad(x, (0, -x.shape[2] % WHOLE, 0, -x.shape[1] % BLOCK)).contiguous()


def _turned(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(1, (-1, BLOCK)).mT.contiguous()


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    height: int,
    width: int,
    ordering: int,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `_reference.ordered_attention`; also, for the gradients, the logarithm to base 2 of the
    sum that each softmax is divided by, in order."""
    place = height, width, ordering
    rows = [_padded(x, *place) for x in (q, k, v)]
    rows[0] *= scale / math.log(2)
    out = torch.empty_like(rows[0])
    norm = out.new_empty(out.shape[:2])
    tensors = *rows, _turned(rows[1]), out, norm
    arrays: Any = [x.numpy() for x in tensors]
    options: dict[str, Any] = {
        "count": q.shape[2],
        "causal": ordering > 0,
        "threads": torch.get_num_threads(),
    }
    _native.attention(*arrays, **options)
    return _unpadded(out, q, *place), norm[:, : q.shape[2]].contiguous().view(q.shape[:3])


def backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    norm: torch.Tensor,
    height: int,
    width: int,
    ordering: int,
    scale: float,
) -> tuple[torch.Tensor, ...]:
    """The gradients of q, k and v."""
    place = height, width, ordering
    rows = [_padded(x, *place) for x in (q, k, v)]
    rows[0] *= scale / math.log(2)
    of_out = _padded(grad, *place)
    delta = (of_out * _padded(out, *place)).sum(2)
    norm = F.pad(norm.flatten(0, 1), (0, delta.shape[1] - norm.shape[2]))
    parts = -(-LEAST_TASKS // len(delta))
    of_q = delta.new_zeros((parts, *of_out.shape))
    of_k, of_v = torch.empty_like(of_out), torch.empty_like(of_out)
    turned = _turned(rows[1]), _turned(rows[2])
    tensors = *rows, *turned, of_out, norm, delta, of_q, of_k, of_v
    arrays: Any = [x.numpy() for x in tensors]
    options: dict[str, Any] = {
        "count": q.shape[2],
        "causal": ordering > 0,
        "threads": torch.get_num_threads(),
    }
    _native.attention_back(*arrays, **options)
    grads = of_q.sum(0).mul_(scale), of_k.mul_(math.log(2)), of_v
    return tuple(_unpadded(x, q, *place) for x in grads)


def _unpadded(
    x: torch.Tensor, like: torch.Tensor, height: int, width: int, ordering: int
) -> torch.Tensor:
    x = x[:, : like.shape[2], : like.shape[3]].unflatten(0, like.shape[:2])
    return reorder(x, height, width, ordering, back=True).to(like.dtype).contiguous()
