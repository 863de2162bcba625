"""What a user could run instead of `fastseg.iic_loss`: the joint of IIC's published program.

p, q (B,K,H,W) → (2T+1,2T+1,K,K), or the scalar loss
"""

import torch
import torch.nn.functional as F

LEAST = 2.0**-52


def conv2d_joint(p: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """One convolution, whose filters are whole images and whose channels are the batch."""
    left, right = (x.permute(1, 0, 2, 3).contiguous() for x in (p, q))
    return F.conv2d(right, left, padding=radius).permute(2, 3, 1, 0)


def iic(joint: torch.Tensor) -> torch.Tensor:
    """The loss of joints (…,K,K), λ = 1: the mean over them."""
    joint = joint / joint.sum((-1, -2), keepdim=True)
    joint = (joint + joint.mT) / 2
    rows, columns = joint.sum(-1, keepdim=True), joint.sum(-2, keepdim=True)
    parts = [x.clamp(min=LEAST).log() for x in (joint, rows, columns)]
    return -(joint * (parts[0] - parts[1] - parts[2])).sum((-1, -2)).mean()


def conv2d_loss(
    p: torch.Tensor, q: torch.Tensor, radius: int, per_displacement: bool
) -> torch.Tensor:
    """The loss of that joint, or of its sum over displacements."""
    joint = conv2d_joint(p, q, radius)
    return iic(joint if per_displacement else joint.sum((0, 1)))
