"""Packages that only some commands need."""

from __future__ import annotations

import importlib.util

from .errors import MissingExtraError


def require(extra: str, *packages: str) -> None:
    """Says which extra brings a package that is not installed, before any work is done.

    Raises:
        MissingExtraError: the first of `packages` that cannot be found.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra)
