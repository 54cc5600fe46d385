"""Reads what an index holds, image by image: rows, captions and embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..index import metadata
from ..index.catalogue import CATALOGUE_FILE, Catalogue
from ..index.changes import NewImage
from ..index.loading import Vectors, load_vectors
from ..index.rows import NO_FIELDS, FileStamp
from ..index.segments import embeddings_of

_BLOCK = 4096

Rows = npt.NDArray[np.int64]
Embeddings = npt.NDArray[np.float32]


def read_images(folder: Path, bundle: Bundle) -> Iterator[list[NewImage]]:
    """Yield all images of an index in the order of their ids, some thousands at a time.

    Args:
        folder: the index.
        bundle: the bundle that made it.

    Raises:
        SearchIndexError: there is no index, it is damaged, or another bundle made it.
    """
    with closing(Catalogue(folder / CATALOGUE_FILE)) as catalogue:
        catalogue.check_bundle(bundle)
        vectors = load_vectors(folder, catalogue, bundle.config.embedding_dim)
        for ids, embeddings in blocks(vectors):
            yield _images(catalogue, vectors, ids, embeddings)


def blocks(vectors: Vectors, part: str = "images") -> Iterator[tuple[Rows, Embeddings]]:
    """Yield ids INT64 `[N]` and embeddings FP32 `[N, D]` of a part, without what was removed."""
    for segment in vectors.parts[part]:
        for start in range(0, len(segment.ids), _BLOCK):
            rows = slice(start, start + _BLOCK)
            ids, embeddings = np.asarray(segment.ids[rows]), np.asarray(segment.vectors[rows])
            if segment.present is not None:
                present = segment.present[rows]
                ids, embeddings = ids[present], embeddings[present]
            if len(ids):
                yield ids, embeddings


def _images(
    catalogue: Catalogue, vectors: Vectors, ids: Rows, embeddings: Embeddings
) -> list[NewImage]:
    span = (int(ids[0]), int(ids[-1]))
    captions: dict[int, list[tuple[int, str]]] = {}
    with catalogue.moment() as db:
        rows = {
            id_: (path, sha256, FileStamp(*stamp))
            for id_, path, sha256, *stamp in db.execute(
                "SELECT id, path, sha256, bytes, mtime_ns, captions_digest FROM images "
                "WHERE id BETWEEN ? AND ?",
                span,
            )
        }
        for caption, image, text in db.execute(
            "SELECT id, image_id, text FROM captions WHERE image_id BETWEEN ? AND ? ORDER BY id",
            span,
        ):
            captions.setdefault(image, []).append((caption, text))
        fields = metadata.read(db, rows)
    wanted = np.array([i for several in captions.values() for i, _ in several], dtype=np.int64)
    of_captions = embeddings_of(vectors.parts["captions"], wanted)
    images = []
    for id_, embedding in zip(ids.tolist(), embeddings, strict=True):
        if id_ not in rows:  # it was removed since the embeddings were opened
            continue
        # Likewise a caption that was added since.
        texts = [(text, of_captions[i]) for i, text in captions.get(id_, []) if i in of_captions]
        images.append(
            NewImage(
                *rows[id_],
                embedding,
                tuple(text for text, _ in texts),
                np.stack([vector for _, vector in texts]) if texts else None,
                fields.get(id_, NO_FIELDS),
            )
        )
    return images
