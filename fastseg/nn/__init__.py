"""Modules over the operators."""

from .region_embedding import RegionEmbedding

__all__ = ["RegionEmbedding"]
