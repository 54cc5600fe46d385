"""Changes of an index that are not saved yet."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import DataError
from .changes import NewImage
from .exact import Embeddings
from .rows import FileStamp

_UNIT_TOLERANCE = 1e-3


@dataclass
class Pending:
    """Changes since the last save, by path."""

    added: dict[str, NewImage] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    """Ids of saved images that leave if there is another of their path among `added`."""
    removed: dict[str, int] = field(default_factory=dict)
    """Ids of saved images that leave."""
    stamps: dict[str, tuple[int, FileStamp]] = field(default_factory=dict)
    """Ids of saved images that have another stamp now."""

    def gone(self) -> dict[str, int]:
        """Return the ids of all saved images that leave."""
        return self.removed | {p: i for p, i in self.replaced.items() if p in self.added}


def checked(image: NewImage, dim: int) -> NewImage:
    """Return an image with embeddings of its own, which were looked at.

    Args:
        image: the image.
        dim: the index's embedding size.

    Raises:
        DataError: an embedding has another size, holds what is no number, or is not of length 1; or
            there is not one for each caption.
    """
    embedding = np.array(image.embedding, dtype=np.float32)
    if embedding.shape != (dim,):
        raise DataError(
            f"{image.path}: its embedding is of shape {embedding.shape}, the index's are of "
            f"size {dim}"
        )
    _check_unit(embedding[None], f"{image.path}: its embedding")
    if not image.captions:
        return image._replace(embedding=embedding, caption_embeddings=None)
    expected = (len(image.captions), dim)
    if image.caption_embeddings is None or image.caption_embeddings.shape != expected:
        raise DataError(f"{image.path}: the embeddings of its captions must be of shape {expected}")
    captions = np.array(image.caption_embeddings, dtype=np.float32)
    _check_unit(captions, f"{image.path}: the embedding of a caption")
    return image._replace(embedding=embedding, caption_embeddings=captions)


def _check_unit(vectors: Embeddings, what: str) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.isfinite(lengths).all():
        raise DataError(f"{what} holds what is no number (NaN or infinity); nothing was added")
    if np.abs(lengths - 1).max(initial=0) > _UNIT_TOLERANCE:
        raise DataError(
            f"{what} is not of length 1 ({lengths[np.argmax(np.abs(lengths - 1))]:.4g}); divide it "
            "by its length"
        )
