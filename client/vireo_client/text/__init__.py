"""The text path: normalise, segment, tokenise, pad."""

from .pipeline import TextBatch, TextPath

__all__ = ["TextBatch", "TextPath"]
