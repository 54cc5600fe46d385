"""`/v1/embed` and `/v1/embeddings`: unit vectors of texts and images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, UploadFile
from vireo_client.embedder import Embeddings
from vireo_client.errors import DataError

from ..schemas import EmbedAnswer, EmbedTextRequest
from ..searching import check_text
from ..state import StateOf
from ..uploads import read_upload

router = APIRouter(prefix="/v1", tags=["embed"])


@router.post("/embed/text")
async def embed_text(state: StateOf, request: EmbedTextRequest) -> EmbedAnswer:
    """Embed texts as queries."""
    limits = state.limits
    if len(request.texts) > limits.texts:
        raise DataError(f"{len(request.texts)} texts; at most {limits.texts} are embedded together")
    texts = [check_text(t, limits, f"texts[{n}]") for n, t in enumerate(request.texts)]
    return _answer(await (await state.library.embedder()).embed_texts(texts))


@router.post("/embed/image")
async def embed_image(
    state: StateOf, image: Annotated[list[UploadFile], File(description="Images' files.")]
) -> EmbedAnswer:
    """Embed images."""
    limits = state.limits
    if len(image) > limits.images:
        raise DataError(f"{len(image)} images; at most {limits.images} are embedded together")
    data = [await read_upload(one, limits) for one in image]
    return _answer(await state.library.embed_uploads(data))


def _answer(vectors: Embeddings) -> EmbedAnswer:
    return EmbedAnswer(embeddings=vectors.tolist(), dim=vectors.shape[1])
