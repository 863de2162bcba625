"""Gaussian inpainting and inpainting error maximisation (IEM)."""

from .api import IEMResult, IEMStatus, gaussian_filter, gaussian_inpaint, iem

__all__ = ["IEMResult", "IEMStatus", "gaussian_filter", "gaussian_inpaint", "iem"]
