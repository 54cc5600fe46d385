"""The neutral queries: what hardly any photo shows, said in the words of every day.

An index without captions learns from them what a score is worth. Their embeddings stay in the
index, so that it embeds them once and learns anew without a model.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable
from functools import cache
from importlib.resources import files

import numpy as np

from ..errors import DataError
from .exact import Embeddings

logger = logging.getLogger(__name__)

META_KEY = "neutral_queries"
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
