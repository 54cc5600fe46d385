"""Is it a hit at all? What a score is worth in this index, learned from queries without a hit.

A cosine means something else for each model, and the best of a million images scores higher than
the best of a hundred. So an index learns the distribution that a cut-off needs: the best score of
queries that have nothing to find. Such a query is a caption with its own image left out, where the
index has captions, and otherwise one of the stored neutral queries, which name what few folders
hold (`neutral_queries.txt`).

The relevance of a score is the share of these best scores that lie below it. It means the same for
every model: with a cut-off at 0.95, one in twenty queries about nothing in the folder still finds
something. Nothing is assumed of the distribution's form; it is that of a maximum, and fits neither
a normal nor a Gumbel distribution well. (Conformal prediction counts in the same way: Vovk,
Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005.)
"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import SearchIndexError
from .exact import Embeddings

META_KEY = "relevance"
CAPTIONS, NEUTRAL_QUERIES = "captions", "neutral queries"
"""What an index learns from."""


class Relevance(NamedTuple):
    """What an index has learned."""

    scores: Embeddings
    """The best scores of queries without a hit, FP32 `[M]`, ascending."""
    images: int
    """How many images the index had."""
    source: str
    """`CAPTIONS` or `NEUTRAL_QUERIES`."""

    def of(self, scores: npt.ArrayLike) -> Embeddings:
        """Return the relevance of scores of text queries with images.

        Args:
            scores: cosine similarities, of any shape.

        Returns:
            FP32 of the same shape: how many of the M learned scores lie below, divided by M + 1. So
            nothing is certain: 1,000 queries tell no more than 0.999.
        """
        below = np.searchsorted(self.scores, np.asarray(scores, dtype=np.float32))
        return (below / (len(self.scores) + 1)).astype(np.float32)

    def is_stale(self, images: int) -> bool:
        """Return whether an index of so many images has outgrown it, or shrunk below its half."""
        return images >= 2 * self.images or 2 * images < self.images

    def to_json(self) -> str:
        """Return it as the text that an index keeps; see `from_json`."""
        scores = [round(float(score), 6) for score in self.scores]
        return json.dumps({"images": self.images, "source": self.source, "scores": scores})

    @classmethod
    def from_json(cls, text: str) -> Relevance:
        """Read what `to_json` wrote.

        Raises:
            SearchIndexError: the text is damaged.
        """
        try:
            read = json.loads(text)
            scores = np.sort(np.array(read["scores"], dtype=np.float32))
            if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
                raise ValueError("no scores")
            return cls(scores, int(read["images"]), str(read["source"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise SearchIndexError(
                f"what the index has learned of relevance is damaged ({error}); `vireo index` "
                "on its images learns it anew"
            ) from error
