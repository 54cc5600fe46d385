"""`/v1/embeddings` and `/v1/models`: in the form of OpenAI's API, for programs that speak it."""

from __future__ import annotations

import base64
from typing import Literal

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, Field
from vireo_client.errors import DataError

from ..overview import model_name
from ..problems import NotFoundError
from ..searching import check_text
from ..state import StateOf

router = APIRouter(prefix="/v1", tags=["embed"])

ANY_NAME = "vireo"
"""Names the model that is served, whichever it is."""


class EmbeddingsRequest(BaseModel):
    """Texts to embed; other fields of OpenAI's are passed over."""

    input: str | list[str] = Field(examples=[["hai con chó", "một con mèo"]])
    model: str = Field(ANY_NAME, description="`vireo`, or the model's name or id of `/v1/info`.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="The model's own size, where it is given.")


class Embedding(BaseModel):
    """One embedding."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Numbers, or their FP32 bytes in base64.")


class Usage(BaseModel):
    """What was read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """Unit vectors, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class Model(BaseModel):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "vireo"


class ModelsAnswer(BaseModel):
    """The models that are served: one."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.post("/embeddings")
async def embeddings(state: StateOf, request: EmbeddingsRequest) -> EmbeddingsAnswer:
    """Embed texts as queries, as OpenAI's API does."""
    given = [request.input] if isinstance(request.input, str) else request.input
    limits = state.limits
    if not 1 <= len(given) <= limits.texts:
        raise DataError(f"input has {len(given)} texts; give 1 to {limits.texts}")
    texts = [check_text(text, limits, "input") for text in given]
    embedder = await state.library.embedder()
    bundle = embedder.bundle
    name = model_name(bundle)
    if request.model not in (ANY_NAME, name, bundle.bundle_id):
        raise NotFoundError(f"model {request.model[:100]!r} is not served here; ask for {name!r}")
    dim = bundle.config.embedding_dim
    if request.dimensions not in (None, dim):
        raise DataError(f"dimensions is {request.dimensions}; this model has {dim} and no fewer")
    vectors = await embedder.embed_texts(texts)
    tokens = sum(len(row) for row in await state.on_files(embedder.text_path.ids, texts))
    as_bytes = request.encoding_format == "base64"
    return EmbeddingsAnswer(
        data=[
            Embedding(index=n, embedding=_base64(v) if as_bytes else v.tolist())
            for n, v in enumerate(vectors)
        ],
        model=name,
        usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _base64(vector: np.ndarray[tuple[int], np.dtype[np.float32]]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


@router.get("/models")
async def models(state: StateOf) -> ModelsAnswer:
    """Name the model that is served."""
    embedder = await state.library.embedder()
    return ModelsAnswer(data=[Model(id=model_name(embedder.bundle))])
