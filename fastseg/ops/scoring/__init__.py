"""Local features scored against global ones or each other, and bounds of mutual information."""

from .api import info_nce, infoseg_loss, local_global_scores

__all__ = ["info_nce", "infoseg_loss", "local_global_scores"]
