"""Packages of the extra `train`, imported when they are first needed."""

from importlib import import_module
from typing import Any

__all__ = ["MissingExtra", "extra"]


class MissingExtra(ImportError):
    """A package of the extra is not installed; the message says how to install it."""


def extra(module: str) -> Any:
    """The module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(
            f"{package} is not installed: pip install 'fastseg[train]' ({error})"
        ) from error
