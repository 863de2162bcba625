"""fastseg: kernel-accelerated unsupervised image segmentation."""

from . import backends, orderings
from .metrics import (
    BinaryScores,
    SegmentationMetrics,
    SegmentationScores,
    SuperpixelScores,
    binary_scores,
    superpixel_scores,
)
from .nn import Entropies, class_entropies, kl_consistency, mutual_information, virtual_adversarial
from .ops.argmax import argmax_in_place
from .ops.attention import ordered_attention
from .ops.inpaint import IEMResult, IEMStatus, gaussian_filter, gaussian_inpaint, iem
from .ops.joint import JointPlan, displaced_joint, iic_loss, joint_plan, joint_sum
from .ops.masked_conv import masked_conv2d, masked_conv2d_pair
from .ops.ncut import soft_ncut
from .ops.region import (
    RegionIndex,
    region_index,
    region_pool,
    region_resize,
    region_spp,
    region_unpool,
)
from .ops.scoring import info_nce, infoseg_loss, local_global_scores
from .ops.slic import slic

__version__ = "0.1.0"

__all__ = [
    "BinaryScores",
    "Entropies",
    "IEMResult",
    "IEMStatus",
    "JointPlan",
    "RegionIndex",
    "SegmentationMetrics",
    "SegmentationScores",
    "SuperpixelScores",
    "__version__",
    "argmax_in_place",
    "backends",
    "binary_scores",
    "class_entropies",
    "displaced_joint",
    "gaussian_filter",
    "gaussian_inpaint",
    "iem",
    "iic_loss",
    "info_nce",
    "infoseg_loss",
    "joint_plan",
    "joint_sum",
    "kl_consistency",
    "local_global_scores",
    "masked_conv2d",
    "masked_conv2d_pair",
    "mutual_information",
    "ordered_attention",
    "orderings",
    "region_index",
    "region_pool",
    "region_resize",
    "region_spp",
    "region_unpool",
    "slic",
    "soft_ncut",
    "superpixel_scores",
    "virtual_adversarial",
]
