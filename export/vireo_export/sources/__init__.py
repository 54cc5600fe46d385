"""Sources: each kind of model that can be exported becomes a bundle's folder and two towers."""

from __future__ import annotations

from .opening import open_source, repository_for
from .source import Source

__all__ = ["Source", "open_source", "repository_for"]
