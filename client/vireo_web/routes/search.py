"""`/v1/search`: images from a query, an image, or both."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Query, Response, UploadFile

from .. import searching
from ..schemas import SearchAnswer, SearchByJson, SearchRequest
from ..state import State, StateOf
from ..uploads import read_base64, read_upload

router = APIRouter(prefix="/v1", tags=["search"])


@router.get("/search")
async def search(
    state: StateOf, response: Response, request: Annotated[SearchRequest, Query()]
) -> SearchAnswer:
    """Find images by a query, by an indexed image, or by both."""
    return await _answer(state, response, request)


@router.post("/search")
async def search_json(state: StateOf, response: Response, request: SearchByJson) -> SearchAnswer:
    """Find images; the image that they shall be like may be in the request."""
    image = None
    if request.image is not None:
        image = await read_base64(request.image, state.limits)
    return await _answer(state, response, request, image)


@router.post("/search/image")
async def search_image(
    state: StateOf,
    response: Response,
    image: Annotated[UploadFile, File(description="An image's file.")],
    q: Annotated[str | None, Form(description="A Vietnamese query besides.")] = None,
    k: Annotated[int, Form(ge=1)] = 24,
    filter: Annotated[str | None, Form()] = None,  # noqa: A002
    min_relevance: Annotated[float | None, Form(ge=0, le=1)] = None,
    text_weight: Annotated[float, Form(ge=0, le=1)] = 0.5,
) -> SearchAnswer:
    """Find images like an uploaded one, or by a query and an image together."""
    request = SearchRequest(
        q=q, k=k, filter=filter, min_relevance=min_relevance, text_weight=text_weight
    )  # fmt: skip
    return await _answer(state, response, request, await read_upload(image, state.limits))


async def _answer(
    state: State, response: Response, request: SearchRequest, image: bytes | None = None
) -> SearchAnswer:
    answer = await searching.search(state.library, request, image)
    response.headers["X-Vireo-Generation"] = str(answer.generation)
    response.headers["Cache-Control"] = "no-store"
    return answer
