"""Moves embeddings between an index and files: import and export."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..captions import Skip
from ..errors import DataError
from ..index.changes import NewImage
from ..index.rows import FileStamp
from ..index.writer import IndexWriter
from ..overlap import batched
from ..progress import progress_bar
from .contents import read_images
from .embed import write_images
from .embedding_files import (
    CAPTIONS,
    IMAGES,
    TEXTS,
    Partition,
    Row,
    read_manifest,
    read_partitions,
    write_manifest,
)

_BLOCK = 4096
_SAVE_EVERY_IMAGES = 100_000
_LENGTH_TOLERANCE = 1e-2
"""Half precision keeps three digits, so that unit length is only nearly so."""
_OURS = ("image_path", "caption", "sha256", "bytes", "mtime_ns", "captions_digest")

Vector = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass
class ImportReport:
    """The outcome of an import."""

    added: int = 0
    captions: int = 0
    skipped: list[Skip] = field(default_factory=list)


def check_importable(bundle: Bundle, folder: Path) -> None:
    """Check that a folder holds embeddings of a bundle's size, before an index is made for them.

    Raises:
        DataError: there are none, they are of another bundle or size, or the first are damaged.
    """
    made_by = read_manifest(folder).get("bundle")
    if made_by is not None and made_by != bundle.bundle_id:
        raise DataError(
            f"{folder}: embeddings of bundle {made_by}, but {bundle.folder} is bundle "
            f"{bundle.bundle_id}; embed with that one"
        )
    first = next(read_partitions(folder, IMAGES))
    where = f"{folder / IMAGES}/{IMAGES}_{first.number}.npy"
    checked(first.embeddings[:_BLOCK], bundle.config.embedding_dim, where)


def import_embeddings(index: IndexWriter, bundle: Bundle, folder: Path) -> ImportReport:
    """Add the images of a folder of embeddings to an index, with their captions.

    All of it is checked before anything is saved: the size D, unit length, and values that are no
    numbers. Columns of the metadata beside the path and the caption become the images' fields.

    Args:
        index: the index.
        bundle: the bundle that made the index; it must have made the embeddings too.
        folder: what `vireo embed`, `vireo index export` or clip-retrieval wrote.

    Raises:
        DataError: the files are damaged, of another bundle or size, not of unit length, or hold
            values that are no numbers; what was saved until then stays.
    """
    check_importable(bundle, folder)
    dim = bundle.config.embedding_dim
    report = ImportReport()
    captions = _Captions(folder, dim)
    seen: set[str] = set()
    with progress_bar(rate="images/s") as progress:
        task = progress.add_task("import", total=None)
        unsaved = 0
        for partition in read_partitions(folder, IMAGES):
            for start in range(0, len(partition.rows), _BLOCK):
                rows = partition.rows[start : start + _BLOCK]
                where = f"{folder / IMAGES}/{IMAGES}_{partition.number}.npy"
                vectors = checked(partition.embeddings[start : start + _BLOCK], dim, where, start)
                images = []
                for row, vector in zip(rows, vectors, strict=True):
                    path = row.get("image_path")
                    if not isinstance(path, str) or not path:
                        report.skipped.append(Skip(where, "a row without image_path"))
                    elif path not in seen:  # a row a caption: its image is the same in all
                        seen.add(path)
                        images.append(_image(row, path, vector, captions))
                index.add(images)
                report.added += len(images)
                report.captions += sum(len(image.captions) for image in images)
                unsaved += len(images)
                progress.advance(task, len(rows))
                if unsaved >= _SAVE_EVERY_IMAGES:
                    index.save()
                    unsaved = 0
    index.save()
    return report


def checked(
    embeddings: npt.NDArray[np.floating[Any]], dim: int, where: str, first: int = 0
) -> Vector:
    """Return embeddings as FP32 of unit length.

    Args:
        embeddings: `[N, D]`.
        dim: D as it should be.
        where: the file, for errors.
        first: the number of the first row in it.

    Raises:
        DataError: D is another one; a value is no number; a row is not of unit length.
    """
    if embeddings.shape[1] != dim:
        raise DataError(
            f"{where}: embeddings of size {embeddings.shape[1]}, but the bundle's are of size {dim}"
        )
    vectors = np.asarray(embeddings, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= _LENGTH_TOLERANCE))
    if wrong.size:
        length = lengths[wrong[0]]
        what = (
            f"is of length {length:.3g}"
            if np.isfinite(length)
            else "holds values that are no numbers"
        )
        raise DataError(
            f"{where}: row {first + int(wrong[0])} {what}; embeddings must be of unit length"
        )
    return np.asarray(vectors / lengths[:, None], dtype=np.float32)


class _Captions:
    """The captions of images in a folder, and where their embeddings are."""

    def __init__(self, folder: Path, dim: int) -> None:
        self._dim = dim
        self._partitions: dict[tuple[Path, int], Partition] = {}
        self._places: dict[str, list[tuple[str, tuple[Path, int], int]]] = {}
        # Ours lie in a folder of their own; others' have a caption in the row of its image.
        for place in (folder, folder / CAPTIONS):
            if (place / TEXTS).is_dir():
                for partition in read_partitions(place, TEXTS):
                    self._note(place, partition)

    def _note(self, place: Path, partition: Partition) -> None:
        key = (place, partition.number)
        self._partitions[key] = partition._replace(rows=[])
        for number, row in enumerate(partition.rows):
            path, text = row.get("image_path"), row.get("caption")
            if isinstance(path, str) and isinstance(text, str) and text.strip():
                self._places.setdefault(path, []).append((text, key, number))

    def of(self, path: str) -> tuple[tuple[str, ...], Vector | None]:
        places = {text: (key, number) for text, key, number in self._places.get(path, [])}
        if not places:
            return (), None
        vectors = [
            checked(
                self._partitions[key].embeddings[number : number + 1],
                self._dim,
                f"{key[0] / TEXTS}/{TEXTS}_{key[1]}.npy",
                number,
            )
            for key, number in places.values()
        ]
        return tuple(places), np.concatenate(vectors)


def _image(row: Row, path: str, vector: Vector, captions: _Captions) -> NewImage:
    texts, of_texts = captions.of(path)
    fields = {
        name: value
        for name, value in row.items()
        if name not in _OURS and isinstance(value, (str, int, float))
    }
    # Without a hash and a stamp, the next run of `vireo index` embeds the image again.
    size, time = (_known(row, name, int) or 0 for name in ("bytes", "mtime_ns"))
    digest, sha256 = (_known(row, name, str) or "" for name in ("captions_digest", "sha256"))
    stamp = FileStamp(size, time, digest)
    return NewImage(os.path.abspath(path), sha256, stamp, vector, texts, of_texts, fields)


def _known(row: Row, name: str, kind: type[T]) -> T | None:
    """Return a value that only our own files are sure to have; others' may mean another thing."""
    value = row.get(name)
    return value if isinstance(value, kind) else None


def export_embeddings(
    index: Path, bundle: Bundle, folder: Path, *, partition_rows: int, dtype: str = "float32"
) -> tuple[int, int]:
    """Write the embeddings of an index to files, with metadata.

    Args:
        index: the index.
        bundle: the bundle that made it.
        folder: a new folder.
        partition_rows: images in one partition.
        dtype: "float32" or "float16".

    Returns:
        How many images and captions were written.

    Raises:
        DataError: the folder exists and holds something.
        SearchIndexError: there is no index, it is damaged, or another bundle made it.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder}: holds files; choose a new folder")
    dim = bundle.config.embedding_dim
    write_manifest(folder, bundle, "images", partition_rows=partition_rows, dtype=dtype)
    written = captions = 0
    images = (image for block in read_images(index, bundle) for image in block)
    for number, part in enumerate(batched(images, partition_rows)):
        captions += write_images(folder, number, part, dim, dtype)
        written += len(part)
    return written, captions
