"""An index: embeddings, and the images and captions behind them, in one folder."""

from __future__ import annotations

from ..extras import import_faiss

import_faiss()  # where it is missing, this error says which extra brings it

from .changes import NewImage  # noqa: E402
from .matches import Match, Matches  # noqa: E402
from .reader import Index  # noqa: E402
from .writer import IndexWriter  # noqa: E402

__all__ = ["Index", "IndexWriter", "Match", "Matches", "NewImage"]
