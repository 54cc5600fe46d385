"""What a writer is told to change: images to add, and images whose files have another path now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .exact import Embeddings
from .rows import NO_FIELDS, FileStamp

UNIT_TOLERANCE = 1e-3
"""How far from 1 the length of an embedding may be."""


class NewImage(NamedTuple):
    """An image to add, with its captions."""

    path: str
    sha256: str
    stamp: FileStamp
    embedding: Embeddings
    """FP32 `[D]`."""
    captions: tuple[str, ...] = ()
    caption_embeddings: Embeddings | None = None
    """FP32 `[len(captions), D]`; None or anything without captions."""
    fields: Mapping[str, str | int | float] = NO_FIELDS
    """Metadata by column: what the file says of itself, and the user's own."""


class Move(NamedTuple):
    """An indexed image whose file has another path now."""

    old: str
    new: str
    stamp: FileStamp
    """The file's at its new path; without captions, the image keeps those it has."""


def checked(image: NewImage, dim: int) -> NewImage:
    """Return an image with embeddings of its own, which were looked at.

    Args:
        image: the image.
        dim: the index's embedding size.

    Raises:
        DataError: an embedding has another size, holds what is no number, or is not of length 1; or
            there is not one for each caption.
    """
    embedding = _floats(image.embedding, f"{image.path}: its embedding")
    if embedding.shape != (dim,):
        raise DataError(
            f"{image.path}: its embedding is of shape {embedding.shape}, the index's are of "
            f"size {dim}"
        )
    _check_unit(embedding[None], f"{image.path}: its embedding")
    if not image.captions:
        return image._replace(embedding=embedding, caption_embeddings=None)
    expected = (len(image.captions), dim)
    what = f"{image.path}: the embedding of a caption"
    captions = _floats(image.caption_embeddings, what)
    if captions.shape != expected:
        raise DataError(f"{image.path}: the embeddings of its captions must be of shape {expected}")
    _check_unit(captions, what)
    return image._replace(embedding=embedding, caption_embeddings=captions)


def _floats(values: object, what: str) -> Embeddings:
    """Return a copy in FP32."""
    try:
        return np.array(values, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(f"{what} holds what is no number ({error}); nothing was added") from None


def _check_unit(vectors: Embeddings, what: str) -> None:
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    wrong = lengths[~(np.abs(lengths - 1) <= UNIT_TOLERANCE)]  # what is no number is wrong too
    if not len(wrong):
        return
    if not np.isfinite(wrong).all():
        raise DataError(f"{what} holds what is no number (NaN or infinity); nothing was added")
    worst = wrong[np.argmax(np.abs(wrong - 1))]
    raise DataError(f"{what} is not of length 1 ({worst:.4g}); divide it by its length")
