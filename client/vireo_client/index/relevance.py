"""Is it a hit at all? What a score is worth in this index, learned from queries without a hit.

A cosine means something else for each model, and the best of a million images scores higher than
the best of a hundred. So an index learns the distribution that a cut-off needs: the best score of
queries that have nothing to find. Such a query is a caption with its own image left out, where the
index has captions, and otherwise one of the stored neutral queries (`neutral_queries.txt`).

The relevance of a score is the share of queries without a hit whose best score lies below. It means
the same for every model: with a cut-off at 0.9, at most one in ten of such queries still finds
something.

- Learned from captions it is the share itself. Nothing is assumed of the distribution's form.
  (Conformal prediction counts in the same way: Vovk, Gammerman and Shafer, "Algorithmic Learning in
  a Random World", 2005.)
- Neutral queries are few, and real ones lie further apart from each other. So the relevance is
  1 / (1 + exp(-z)), z being the score less the mean of the neutral queries' best scores, in units
  of their standard deviation: a logistic distribution 1.8 times as wide. That this width keeps the
  promise was chosen and measured with `benchmarks/relevance.py`.
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
_MOST = 0.999
_LEAST_SPREAD = 1e-6
"""Where all queries have one best score, as with a single query."""
_FURTHEST = 50.0
"""Further out, exp overflows and the relevance no longer changes."""


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
            FP32 of the same shape, from 0 to 0.999: nothing is certain. Of M captions' scores, how
            many lie below, divided by M + 1; of neutral queries' scores, see above.
        """
        given = np.asarray(scores, dtype=np.float32)
        if self.source != NEUTRAL_QUERIES:
            below = np.searchsorted(self.scores, given)
            return (below / (len(self.scores) + 1)).astype(np.float32)
        spread = max(float(self.scores.std()), _LEAST_SPREAD)
        z = np.clip((given - self.scores.mean()) / spread, -_FURTHEST, _FURTHEST)
        relevance: Embeddings = np.minimum(1 / (1 + np.exp(-z)), _MOST).astype(np.float32)
        return relevance

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
