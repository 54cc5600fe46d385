"""What can be exported: each kind of source becomes a bundle's folder and two modules."""

from __future__ import annotations

from .source import Source, open_source, repository_for

__all__ = ["Source", "open_source", "repository_for"]
