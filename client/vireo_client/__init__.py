"""Vireo's client: embeds Vietnamese queries and images, and searches an index of embeddings.

from vireo_client import SearchClient

with SearchClient("my-index", triton="127.0.0.1:8001") as client:
    matches = client.search("hai con chó trên bãi cỏ")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from .aio import AsyncSearchClient
    from .bundle import Bundle
    from .embedder import Embedder
    from .errors import VireoError
    from .index import Index, IndexWriter, Match, Matches
    from .search import SearchClient
    from .towers.connection import ConnectionOptions

__all__ = ["AsyncSearchClient", "Bundle", "ConnectionOptions", "Embedder", "Index", "IndexWriter",
           "Match", "Matches", "SearchClient", "VireoError", "__version__"]  # fmt: skip

_HOMES = {
    "AsyncSearchClient": "aio",
    "Bundle": "bundle",
    "ConnectionOptions": "towers.connection",
    "Embedder": "embedder",
    "Index": "index",
    "IndexWriter": "index",
    "Match": "index",
    "Matches": "index",
    "SearchClient": "search",
    "VireoError": "errors",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: `vireo --help` needs no FAISS."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
