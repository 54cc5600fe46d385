"""Learns what a score is worth in an index; `relevance` says what that means."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from . import neutral
from .committed import Committed
from .exact import Embeddings, Rows
from .neutral import Embed
from .relevance import CAPTIONS, META_KEY, NEUTRAL_QUERIES, Relevance

Nearest = Callable[[Embeddings, int], tuple[Embeddings, Rows]]
"""Finds the k nearest images: scores and ids `[N, k]` or narrower, best first, -1 for no hit."""

MIN_CAPTIONS = 100
"""With fewer captions, the neutral queries tell more."""
MAX_CAPTIONS = 1_000
_PRODUCTS = 200_000_000
"""About how many inner products learning may take: of a large index, fewer captions are used."""
_MAX_OWN = 50
"""A caption that more images have is left out."""


def learn(committed: Committed, embed: Embed | None = None) -> bool:
    """Learn anew where an index has not learned, or has doubled or halved since.

    Args:
        committed: the index.
        embed: embeds texts as queries. Given, an index without enough captions learns from neutral
            queries. Once it has, it learns anew without.

    Returns:
        Whether it learned anything.

    Raises:
        SearchIndexError: the disk does not take it.
        VireoError: `embed` fails.
    """
    images = committed.state.images
    if not images or committed.state.version == 1:
        return False
    known = committed.catalogue.relevance()
    stale = known is None or known.is_stale(images)
    if not stale and known is not None and known.source == CAPTIONS:
        return False
    learned = _learn_from_own_captions(committed)
    noted: dict[str, str] = {}
    if learned is None and (stale or embed is not None):
        learned, noted = _learn_from_stored_queries(committed, embed, stale=stale)
    if learned is None:
        return False
    state = committed.next_state()
    with committed.moving_to(state), committed.transaction(state) as catalogue:
        catalogue.set_meta(**{META_KEY: learned.to_json()}, **noted)
    return True


def _learn_from_stored_queries(
    committed: Committed, embed: Embed | None, *, stale: bool
) -> tuple[Relevance | None, dict[str, str]]:
    """Learn from the neutral queries, embedded now if the index does not keep their embeddings.

    Returns:
        What it learned, and what the index is to keep besides.
    """
    noted: dict[str, str] = {}
    vectors = neutral.from_json(committed.catalogue.meta(neutral.META_KEY), committed.dim)
    if vectors is None and embed is not None:
        usable = neutral.embed_usable(embed, list(neutral.neutral_queries()))
        if len(usable):
            noted[neutral.META_KEY] = neutral.to_json(usable)
            vectors = neutral.from_json(noted[neutral.META_KEY], committed.dim)  # as next time
    if vectors is None or not (stale or noted):
        return None, {}
    images = committed.state.images
    return learn_from_neutral_queries(vectors, committed.nearest_images, images), noted


def _learn_from_own_captions(committed: Committed) -> Relevance | None:
    images, captions = committed.state.images, committed.state.captions
    if captions < MIN_CAPTIONS:
        return None
    with committed.catalogue.moment() as db:
        chosen, own = sample_captions(db, images)
    vectors = committed.embeddings("captions", chosen)
    return learn_from_captions(vectors, own, committed.nearest_images, images)


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
    if len(usable) < MIN_CAPTIONS:  # each save asks again: a search would be in vain
        return None
    k = 1 + max(len(own[place]) for place in usable)
    scores, ids = nearest(np.ascontiguousarray(captions[usable]), k)
    others = [
        next((s for s, i in zip(*hits, strict=True) if i >= 0 and int(i) not in own[place]), None)
        for place, *hits in zip(usable, scores, ids, strict=True)
    ]
    best = [float(score) for score in others if score is not None]
    return _relevance(best, images, CAPTIONS) if len(best) >= MIN_CAPTIONS else None


def learn_from_neutral_queries(
    queries: Embeddings, nearest: Nearest, images: int
) -> Relevance | None:
    """Learn from embeddings of the neutral queries, FP32 `[N, D]`; None if the index is empty."""
    if not images:
        return None
    scores, _ = nearest(queries, 1)
    return _relevance(scores[:, 0].tolist(), images, NEUTRAL_QUERIES)


def _relevance(scores: Sequence[float], images: int, source: str) -> Relevance:
    return Relevance(np.sort(np.array(scores, dtype=np.float32)), images, source)
