"""The papers, a file each: configuration, loss, predictions."""

from .base import Method

METHODS: dict[str, type[Method]] = {}

__all__ = ["METHODS", "Method"]
