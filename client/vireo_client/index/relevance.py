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
import sqlite3
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError, SearchIndexError

Embeddings = npt.NDArray[np.float32]
Embed = Callable[[list[str]], Embeddings]
"""Embeds texts as queries: FP32 `[N, D]`. It raises a `DataError` for a text that it cannot."""
Nearest = Callable[[Embeddings, int], tuple[Embeddings, npt.NDArray[np.int64]]]
"""Finds the k nearest images: scores and ids `[N, k]` or narrower, best first, -1 for no hit."""

META_KEY = "relevance"
CAPTIONS, NEUTRAL_QUERIES = "captions", "neutral queries"
"""What an index learns from."""
MIN_CAPTIONS = 100
"""With fewer captions, the neutral queries tell more."""
MAX_CAPTIONS = 1_000
_PRODUCTS = 200_000_000
"""About how many inner products learning may take: of a large index, fewer captions are used."""
_MAX_OWN = 50
"""A caption that more images have is left out."""


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
        except (ValueError, KeyError, TypeError) as error:
            raise SearchIndexError(
                f"what the index has learned of relevance is damaged ({error}); `vireo index "
                "compact` learns it anew"
            ) from error


class Sample(NamedTuple):
    """Captions to learn from."""

    caption_ids: list[int]
    own: list[frozenset[int]]
    """For each, the ids of the images that it describes: its own, copies of that file, and those
    that have the same caption."""


def sample_captions(db: sqlite3.Connection, images: int) -> Sample:
    """Choose captions of an index of so many images, evenly over all; always the same ones."""
    count = min(MAX_CAPTIONS, max(MIN_CAPTIONS, _PRODUCTS // max(images, 1)))
    ((joined,),) = db.execute("SELECT group_concat(id) FROM captions")
    ids = np.sort(np.fromstring(joined or "", dtype=np.int64, sep=","))
    chosen = ids[np.unique(np.linspace(0, len(ids) - 1, min(count, len(ids))).astype(np.int64))]
    marks = ", ".join("?" * len(chosen))
    rows = db.execute(
        "SELECT captions.id, text, sha256 FROM captions JOIN images ON images.id = image_id "
        f"WHERE captions.id IN ({marks}) ORDER BY captions.id",
        chosen.tolist(),
    ).fetchall()
    with_text = _image_ids(
        db, "SELECT text, image_id FROM captions WHERE text", [r[1] for r in rows]
    )
    copies = _image_ids(db, "SELECT sha256, id FROM images WHERE sha256", [r[2] for r in rows])
    return Sample(
        [caption_id for caption_id, _, _ in rows],
        [frozenset(with_text[text] | copies[digest]) for _, text, digest in rows],
    )


def _image_ids(db: sqlite3.Connection, query: str, keys: Sequence[str]) -> dict[str, set[int]]:
    distinct = list(dict.fromkeys(keys))
    found: dict[str, set[int]] = {key: set() for key in distinct}
    for key, image_id in db.execute(f"{query} IN ({', '.join('?' * len(distinct))})", distinct):
        found[key].add(image_id)
    return found


def learn_from_captions(
    captions: Embeddings, own: Sequence[frozenset[int]], nearest: Nearest, images: int
) -> Relevance | None:
    """Learn from captions, whose own images are left out.

    Args:
        captions: the embeddings of the sample, FP32 `[N, D]`.
        own: as in `Sample`.
        nearest: searches the index's images.
        images: how many there are.

    Returns:
        None if fewer than `MIN_CAPTIONS` of the captions have another image to find.
    """
    usable = [place for place, ids in enumerate(own) if len(ids) <= _MAX_OWN]
    if not usable:
        return None
    k = 1 + max(len(own[place]) for place in usable)
    scores, ids = nearest(np.ascontiguousarray(captions[usable]), k)
    others = [
        next((s for s, i in zip(*hits, strict=True) if i >= 0 and int(i) not in own[place]), None)
        for place, *hits in zip(usable, scores, ids, strict=True)
    ]
    best = [float(score) for score in others if score is not None]
    return _relevance(best, images, CAPTIONS) if len(best) >= MIN_CAPTIONS else None


def learn_from_neutral_queries(embed: Embed, nearest: Nearest, images: int) -> Relevance | None:
    """Learn from the stored queries, those that the model can embed.

    Returns:
        None if the index is empty, or the model can embed none of them.

    Raises:
        VireoError: the model fails for another reason.
    """
    queries = _embed_usable(embed, neutral_queries())
    if not len(queries) or not images:
        return None
    scores, _ = nearest(queries, 1)
    return _relevance(scores[:, 0].tolist(), images, NEUTRAL_QUERIES)


def neutral_queries() -> list[str]:
    """Return the stored queries, Vietnamese, about things, actions, places and ideas."""
    text = files(__package__).joinpath("neutral_queries.txt").read_text(encoding="utf-8")
    return text.splitlines()


def _embed_usable(embed: Embed, texts: list[str]) -> Embeddings:
    """Embed the texts; where one cannot be embedded, each by itself, leaving such ones out."""
    try:
        return embed(texts)
    except DataError:
        if len(texts) == 1:
            return np.empty((0, 0), dtype=np.float32)
    found = [vectors for text in texts if len(vectors := _embed_usable(embed, [text]))]
    return np.concatenate(found) if found else np.empty((0, 0), dtype=np.float32)


def _relevance(scores: Sequence[float], images: int, source: str) -> Relevance:
    return Relevance(np.sort(np.array(scores, dtype=np.float32)), images, source)
