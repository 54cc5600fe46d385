"""What can be exported: each kind of source becomes a bundle's folder and two modules."""

from __future__ import annotations

from .opening import open_source, repository_for
from .source import Source

__all__ = ["Source", "open_source", "repository_for"]
