"""From query vectors to matches: filters, words beside vectors, and the cut at a relevance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from .errors import DataError
from .index.filters import Filter
from .index.fusion import fuse
from .index.kinds import SearchSettings
from .index.matches import Matches
from .index.reader import Index, checked_k
from .telemetry import stage

Embeddings = npt.NDArray[np.float32]


_DEPTH = 100
"""Hits of each ranking that are fused, at least."""


class SearchOptions(TypedDict, total=False):
    """What all searches take by keyword."""

    filter: Filter | None
    """Which images may be found, such as `'folder ^= "2024/" and make = "Canon"'`."""
    min_relevance: float | None
    """Leave out matches of less relevance, between 0 and 1; 0.9 to begin with."""
    exact: bool
    """Compare with every vector, whatever the kind of the index."""
    nprobe: int | None
    """Cells that are looked at, for the kinds with cells; by default as it was tuned."""
    ef: int | None
    """Candidates that are kept, for the kinds with a graph; by default as it was tuned."""


class Ranking:
    """Searches one index with query vectors and the options of a search; threads may share it."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def images(
        self,
        queries: Embeddings,
        k: int,
        options: SearchOptions,
        *,
        texts: Sequence[str] | None = None,
        hybrid: bool = False,
        mixed: bool = False,
    ) -> list[Matches]:
        """Find the `k` best images of each query.

        Args:
            queries: unit vectors FP32 `[N, D]`.
            k: how many, at most.
            options: of the search.
            texts: the N texts of the queries; None for images.
            hybrid: whether the words of the texts are looked for too.
            mixed: whether the vectors are of images too, not of the texts alone.

        Raises:
            DataError: an option has a value that it cannot have.
            SearchIndexError: as `Index.search_images`.
        """
        checked = read_options(options)
        # Of two rankings to fuse, more than k hits count: what is 11th in both may be among 10.
        depth = max(checked_k(k), _DEPTH) if hybrid else k
        with stage("search"):
            found = self._index.search_images(
                queries, depth, filter=checked.get("filter"), search=_settings(checked)
            )
            if texts is not None and hybrid:
                found = [
                    self._fused(query, text, matches, depth, checked)[:k]
                    for query, text, matches in zip(queries, texts, found, strict=True)
                ]
        if texts is not None and not mixed and (relevance := self._index.relevance) is not None:
            for matches in found:
                matches.relevance = relevance.of(matches.scores)
        return [_cut(matches, checked) for matches in found]

    def _fused(
        self, query: Embeddings, text: str, near: Matches, depth: int, options: SearchOptions
    ) -> Matches:
        """Rank the images that are near a query's vector or have its words, by both."""
        worded = self._index.search_words(text, depth, filter=options.get("filter"))
        hits = {match.id: match for match in near}
        more = {match.id: match for match in worded if match.id not in hits}
        # What only the words found has a cosine too. An image removed in between has none.
        for id_, vector in self._index.embeddings(more).items():
            hits[id_] = more[id_]._replace(score=float(vector @ query))
        ranked = fuse([near.ids.tolist(), worded.ids.tolist()])
        return Matches.of([hits[id_] for id_, _ in ranked if id_ in hits])

    def captions(self, queries: Embeddings, k: int, options: SearchOptions) -> list[Matches]:
        """Find the `k` best captions of each query; as `images`."""
        checked = read_options(options)
        with stage("search"):
            found = self._index.search_captions(
                queries, k, filter=checked.get("filter"), search=_settings(checked)
            )
        return [_cut(matches, checked) for matches in found]


def read_options(options: SearchOptions) -> SearchOptions:
    """Check the options of a search that the index does not check.

    Raises:
        TypeError: an option is unknown.
        DataError: `min_relevance` is no number between 0 and 1.
    """
    for name in options:
        if name not in SearchOptions.__annotations__:
            raise TypeError(
                f"unknown option {name!r}; there are {', '.join(SearchOptions.__annotations__)}"
            )
    least = options.get("min_relevance")
    if least is not None:
        number = isinstance(least, (int, float)) and not isinstance(least, bool)
        if not (number and math.isfinite(least) and 0 <= least <= 1):
            raise DataError(f"min_relevance is {least!r}; give a number between 0 and 1")
    return options


def _settings(options: SearchOptions) -> SearchSettings:
    return SearchSettings(options.get("exact", False), options.get("nprobe"), options.get("ef"))


def is_plain(options: SearchOptions) -> bool:
    """Return whether a search looks at vectors alone, and takes as long as others of its kind."""
    return not any(value for name, value in options.items() if name != "min_relevance")


def _cut(found: Matches, options: SearchOptions) -> Matches:
    """Leave out the matches below `min_relevance`."""
    least = options.get("min_relevance")
    if least is None:
        return found
    if found.relevance is None:
        raise DataError(
            "min_relevance: the relevance of these matches is not known. An index learns it of "
            "images that a text finds, when `vireo index` saves; it is not known of what an image "
            "finds, nor of captions"
        )
    return found.where(found.relevance >= np.float32(least))
