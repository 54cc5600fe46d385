"""An index: embeddings, and the images and captions behind them, in one folder."""

from __future__ import annotations

from .matches import Match
from .reader import Index
from .writer import IndexWriter, NewImage

__all__ = ["Index", "IndexWriter", "Match", "NewImage"]
