"""`/v1/describe`: captions of the index for an image."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, File, Form, Query, UploadFile
from vireo_client.embedder import Embeddings

from ..schemas import DescribeAnswer, Sentence
from ..searching import check_k, stored_embedding
from ..state import State, StateOf
from ..uploads import read_upload

router = APIRouter(prefix="/v1", tags=["search"])


@router.get("/describe")
async def describe(
    state: StateOf,
    image_id: Annotated[int, Query(ge=0, lt=2**63, description="An indexed image.")],
    k: Annotated[int, Query(ge=1)] = 5,
) -> DescribeAnswer:
    """Find the captions that describe an indexed image best."""
    check_k(k, state.limits)
    return await _answer(state, lambda: stored_embedding(state.library, image_id), k)


@router.post("/describe")
async def describe_upload(
    state: StateOf,
    image: Annotated[UploadFile, File(description="An image's file.")],
    k: Annotated[int, Form(ge=1)] = 5,
) -> DescribeAnswer:
    """Find the captions that describe an uploaded image best."""
    check_k(k, state.limits)
    data = await read_upload(image, state.limits)
    return await _answer(state, lambda: state.library.embed_uploads([data]), k)


async def _answer(
    state: State, embed: Callable[[], Awaitable[Embeddings]], k: int
) -> DescribeAnswer:
    # Some captions stand with many images; each is told once.
    (found,) = await state.library.find(
        embed, lambda opened, vectors: opened.ranking.captions(vectors, 4 * k, {})
    )
    best: dict[str, float] = {}
    for match in found:
        best.setdefault(match.caption or "", match.score)
    return DescribeAnswer(
        sentences=[Sentence(text=text, score=round(score, 6)) for text, score in best.items()][:k]
    )
