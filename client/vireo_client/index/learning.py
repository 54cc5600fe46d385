"""Learns what a score is worth in an index; `relevance` says what that means."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .committed import Committed
from .exact import Embeddings, Rows
from .relevance import CAPTIONS, META_KEY, NEUTRAL_QUERIES, Relevance

Embed = Callable[[list[str]], Embeddings]
"""Embeds texts as queries: FP32 `[N, D]`. It raises a `DataError` for a text that it cannot."""
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
            queries.

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
    if learned is None and embed is not None and stale:
        learned = learn_from_neutral_queries(embed, committed.nearest_images, images)
    if learned is None:
        return False
    state = committed.next_state()
    with committed.moving_to(state), committed.transaction(state) as catalogue:
        catalogue.set_meta(**{META_KEY: learned.to_json()})
    return True


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
