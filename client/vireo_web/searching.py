"""Searches of the API: from what is asked to matches with all that a page shows of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from vireo_client.embedder import Embeddings
from vireo_client.errors import DataError
from vireo_client.index.matches import Match, Matches
from vireo_client.queries import check_question, mix
from vireo_client.ranking import SearchOptions

from .library import Library, OpenedIndex
from .problems import NotFoundError
from .schemas import Milliseconds, SearchAnswer, SearchMatch, SearchRequest, Value
from .settings import Limits


@dataclass(frozen=True, slots=True)
class _Asked:
    """A search whose parts were checked."""

    text: str | None
    image: bytes | None
    image_id: int | None
    weights: tuple[float, float]


async def search(
    library: Library, request: SearchRequest, image: bytes | None = None
) -> SearchAnswer:
    """Answer a search.

    Raises:
        DataError: nothing is asked for, or an option cannot be.
        NotFoundError: the index has no image `image_id`.
        VireoError: the index or the towers cannot be used now.
    """
    started = time.perf_counter()
    asked = _checked(request, image, library.settings.limits)
    options: SearchOptions = {"filter": request.filter, "min_relevance": request.min_relevance}
    embedded = started
    mixed = asked.image is not None or asked.image_id is not None

    async def embed() -> Embeddings:
        nonlocal embedded
        vectors = await _embed(library, asked)
        embedded = time.perf_counter()
        return vectors

    def find(
        opened: OpenedIndex, vectors: Embeddings
    ) -> tuple[Matches, Mapping[int, list[str]], int]:
        found = opened.ranking.images(
            vectors,
            request.k,
            options,
            texts=None if asked.text is None else [asked.text],
            hybrid=request.hybrid,
            mixed=mixed,
        )[0]
        captions = opened.index.captions_of(found.ids.tolist())
        return found, captions, opened.index.generation

    matches, captions, generation = await library.find(embed, find)
    ended = time.perf_counter()
    return SearchAnswer(
        query=request.model_dump(include=set(SearchRequest.model_fields)),
        matches=[_shown(match, captions) for match in matches],
        generation=generation,
        milliseconds=Milliseconds(
            embed=_ms(embedded - started), search=_ms(ended - embedded), total=_ms(ended - started)
        ),
    )


def check_text(text: str, limits: Limits, name: str = "q") -> str:
    """Return a text without the spaces around it.

    Raises:
        DataError: it is too long, or no Unicode.
    """
    if len(text) > limits.text_characters:
        raise DataError(
            f"{name} has {len(text):,} characters; give at most {limits.text_characters:,}"
        )
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataError(f"{name} holds half of a surrogate pair; give whole Unicode characters")
    return text.strip()


def check_k(k: int, limits: Limits) -> None:
    """Refuse more matches than the server gives.

    Raises:
        DataError: `k` is too large.
    """
    if k > limits.matches:
        raise DataError(f"k is {k}; at most {limits.matches} matches are given")


def _checked(request: SearchRequest, image: bytes | None, limits: Limits) -> _Asked:
    check_k(request.k, limits)
    if request.filter is not None:
        check_text(request.filter, limits, "filter")
    text = check_text(request.q, limits) if request.q is not None else ""
    if image is not None and request.image_id is not None:
        raise DataError("image and image_id are both given; give one of them")
    given = image if image is not None else request.image_id
    check_question(text or None, given, hybrid=request.hybrid)
    share = request.text_weight
    return _Asked(text or None, image, request.image_id, (share, 1.0 - share))


async def _embed(library: Library, asked: _Asked) -> Embeddings:
    """Return the query as one unit vector, FP32 `[1, D]`."""
    if asked.text is None:
        return await _embed_image(library, asked)
    embedder = await library.embedder()
    if asked.image is None and asked.image_id is None:
        return await embedder.embed_texts([asked.text])
    texts, images = await asyncio.gather(
        embedder.embed_texts([asked.text]), _embed_image(library, asked)
    )
    return mix(texts, images, asked.weights)


async def _embed_image(library: Library, asked: _Asked) -> Embeddings:
    if asked.image is not None:
        return await library.embed_uploads([asked.image])
    assert asked.image_id is not None
    return await stored_embedding(library, asked.image_id)


async def stored_embedding(library: Library, image_id: int) -> Embeddings:
    """Return the embedding of an indexed image, FP32 `[1, D]`.

    Raises:
        NotFoundError: the index has no such image.
    """
    found = await library.read(lambda opened: opened.index.embeddings([image_id]))
    if image_id not in found:
        raise no_image(image_id)
    return np.asarray(found[image_id])[np.newaxis]


def no_image(image_id: int) -> NotFoundError:
    """Make the error for an id that is no image's."""
    return NotFoundError(f"the index has no image {image_id}; it may have been removed")


def addresses(image_id: int) -> dict[str, str]:
    """Return where an image and its thumbnail are served."""
    return {"image": f"/v1/images/{image_id}", "thumbnail": f"/v1/images/{image_id}/thumbnail"}


def size_of(fields: Mapping[str, Value], name: str) -> int | None:
    """Return the width or the height that the index knows of an image."""
    value = fields.get(name)
    return value if isinstance(value, int) else None


def _shown(match: Match, captions: Mapping[int, list[str]]) -> SearchMatch:
    return SearchMatch(
        rank=match.rank,
        id=match.id,
        path=match.path,
        name=PurePath(match.path).name,
        score=round(match.score, 6),
        relevance=None if match.relevance is None else round(match.relevance, 4),
        caption=next(iter(captions.get(match.id, [])), None),
        metadata=dict(match.metadata),
        width=size_of(match.metadata, "width"),
        height=size_of(match.metadata, "height"),
        **addresses(match.id),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
