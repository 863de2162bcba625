"""Joint distributions of two label fields, displaced against each other, and losses on them."""

from .api import displaced_joint, joint_sum
from .iic import iic_loss
from .plan import JointPlan, joint_plan

__all__ = ["JointPlan", "displaced_joint", "iic_loss", "joint_plan", "joint_sum"]
