"""The neutral queries: what hardly any photo shows, said in the words of every day.

An index without captions learns from them what a score is worth. Export embeds them and lays the
embeddings beside the engines; an index takes them from there, or embeds the queries once. They stay
in the index, which learns anew without a model.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from ..bundle import Bundle
from ..errors import DataError
from .exact import Embeddings

logger = logging.getLogger(__name__)

META_KEY = "neutral_queries"
FILE = "neutral_queries.json"
"""The file of a model repository."""
_FILE_BYTES = 4 << 20
"""The largest such file that is read."""
Embed = Callable[[list[str]], Embeddings]
"""Embeds texts as queries: FP32 `[N, D]`. It raises a `DataError` for a text that it cannot."""


@cache
def neutral_queries() -> tuple[str, ...]:
    """Return the stored queries, Vietnamese, about people, animals and things in odd places."""
    text = files(__package__).joinpath("neutral_queries.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def embed_usable(embed: Embed, texts: list[str]) -> Embeddings:
    """Embed texts, leaving out those that cannot be embedded.

    Returns:
        FP32 `[N, D]`; `[0, 0]` if none can be embedded.

    Raises:
        VireoError: `embed` fails for another reason.
    """
    try:
        return embed(texts)
    except DataError:
        if len(texts) == 1:
            return np.empty((0, 0), dtype=np.float32)
    half = len(texts) // 2
    parts = [embed_usable(embed, part) for part in (texts[:half], texts[half:])]
    found = [vectors for vectors in parts if len(vectors)]
    return np.concatenate(found) if found else np.empty((0, 0), dtype=np.float32)


def write_beside_engines(folder: Path, bundle: Bundle, embed: Embed) -> None:
    """Embed the queries for the indexes of a model repository, unless none can be embedded."""
    usable = embed_usable(embed, list(neutral_queries()))
    if len(usable):
        # After a rollback, the repository may be another bundle's.
        noted = {"bundle_id": bundle.bundle_id, **json.loads(to_json(usable))}
        (folder / FILE).write_text(json.dumps(noted) + "\n", encoding="utf-8")


def embed_with(bundle: Bundle, embed: Embed) -> Embed:
    """Return what gives the queries' embeddings: those beside a bundle's engines, else `embed`."""
    path = bundle.folder / FILE
    if not path.is_file() or path.stat().st_size > _FILE_BYTES:  # none there, as beside weights
        return embed
    try:
        text = path.read_text(encoding="utf-8")
        if json.loads(text)["bundle_id"] != bundle.bundle_id:
            return embed
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        logger.warning("%s: damaged (%s); the queries are embedded", path, error)
        return embed
    vectors = from_json(text, bundle.config.embedding_dim)
    return embed if vectors is None else lambda _: vectors


def to_json(vectors: Embeddings) -> str:
    """Return embeddings of the queries as the text that an index keeps: FP16, to be small."""
    halves = base64.b64encode(vectors.astype("<f2").tobytes()).decode()
    return json.dumps({"queries": _digest(), "vectors": halves})


def from_json(text: str | None, dim: int) -> Embeddings | None:
    """Read what `to_json` wrote.

    Args:
        text: what the index keeps, if anything.
        dim: the size of its embeddings.

    Returns:
        FP32 `[N, D]`; None where nothing is kept, where it is damaged, and where it is of other
        queries than this version's.
    """
    if text is None:
        return None
    try:
        kept = json.loads(text)
        if kept["queries"] != _digest():
            return None
        halves = np.frombuffer(base64.b64decode(kept["vectors"], validate=True), dtype="<f2")
        vectors = halves.reshape(-1, dim).astype(np.float32)
        if not len(vectors) or not np.isfinite(vectors).all():
            raise ValueError("no embeddings")
        return vectors
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("the neutral queries' embeddings are damaged (%s); made anew", error)
        return None


def _digest() -> str:
    return hashlib.sha256("\n".join(neutral_queries()).encode()).hexdigest()
