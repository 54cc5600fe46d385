"""Embeds images or texts into files, a partition at a time; a run goes on where one stopped."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import file_sha256
from ..captions import CaptionedImage, Skip, numbered_lines
from ..embedder import Embedder
from ..errors import DataError
from ..index.changes import NewImage
from ..overlap import batched
from ..progress import progress_bar
from .candidates import find_candidates
from .embedding_files import CAPTIONS, IMAGES, TEXTS, Row, finished, write_manifest, write_partition
from .lists import text_records
from .report import IndexReport
from .stages import embed_candidates
from .workers import Known, Prepared

PARTITION_ROWS = 10_000
_TEXTS_AT_ONCE = 512


@dataclass
class EmbedReport:
    """The outcome of a run of embedding."""

    rows: int = 0
    """Images or texts that this run embedded."""
    captions: int = 0
    partitions: int = 0
    """Partitions that this run wrote."""
    known: int = 0
    """Partitions that an earlier run had written."""
    skipped: list[Skip] = field(default_factory=list)
    seconds: float = 0.0


def embed_images_to(
    folder: Path,
    embedder: Embedder,
    records: Sequence[CaptionedImage],
    *,
    partition_rows: int = PARTITION_ROWS,
    dtype: str = "float32",
    workers: int | None = None,
) -> EmbedReport:
    """Write the embeddings of images, and those of their captions, to files.

    Args:
        folder: a new folder, or one in which a run over the same images stopped.
        embedder: embeds them.
        records: the images, as `list_images` returns them.
        partition_rows: images in one partition; what a kill costs at most.
        dtype: "float32" or "float16".
        workers: threads that read and decode; by default as many as this process has cores.

    Raises:
        DataError: the folder holds other files, or the images or the settings have changed since
            it was started.
        ServerError: Triton failed; whole partitions stay.
    """
    started = time.monotonic()
    report, listed = EmbedReport(), IndexReport()
    candidates = list(find_candidates(records, listed))
    report.skipped = listed.skipped
    digest = hashlib.sha256()
    for image in candidates:
        digest.update(f"{image.path}\0{image.stamp}\0".encode())
    write_manifest(
        folder,
        embedder.bundle,
        "images",
        partition_rows=partition_rows,
        dtype=dtype,
        source=digest.hexdigest(),
    )
    done = finished(folder)

    with progress_bar(rate="images/s") as progress:
        task = progress.add_task("embed images", total=len(candidates))

        def settle(item: Prepared) -> None:
            if item.skip is not None:
                report.skipped.append(item.skip)
            progress.advance(task)

        for number, part in enumerate(batched(candidates, partition_rows)):
            if number in done:
                report.known += 1
                progress.advance(task, len(part))
                continue
            images: list[NewImage] = []
            stream = embed_candidates(embedder, part, Known({}, {}, ()), settle, workers=workers)
            with closing(stream) as batches:
                for batch in batches:
                    images += batch
                    progress.advance(task, len(batch))
            report.captions += write_images(folder, number, images, embedder.dim, dtype)
            report.rows += len(images)
            report.partitions += 1
    report.seconds = time.monotonic() - started
    return report


def write_images(
    folder: Path, number: int, images: Sequence[NewImage], dim: int, dtype: str
) -> int:
    """Write one partition of images, and first that of their captions, where they have any.

    Returns:
        The number of captions.
    """
    of_captions = [image for image in images if image.captions]
    texts: list[Row] = [
        {"caption": text, "image_path": image.path}
        for image in of_captions
        for text in image.captions
    ]
    if texts:
        vectors = [v for image in of_captions for v in _caption_embeddings(image)]
        write_partition(folder / CAPTIONS, TEXTS, number, np.stack(vectors), texts, dtype)
    embeddings = np.empty((len(images), dim), dtype=np.float32)
    for row, image in enumerate(images):
        embeddings[row] = image.embedding
    write_partition(folder, IMAGES, number, embeddings, [row_of(image) for image in images], dtype)
    return len(texts)


def row_of(image: NewImage) -> Row:
    """Return the metadata of an image: its path, its file's hash and stamp, and its fields."""
    return {
        **image.fields,
        "image_path": image.path,
        "sha256": image.sha256,
        "bytes": image.stamp.bytes,
        "mtime_ns": image.stamp.mtime_ns,
        "captions_digest": image.stamp.captions,
    }


def _caption_embeddings(image: NewImage) -> Any:
    if image.caption_embeddings is None:
        raise ValueError(f"{image.path}: captions without embeddings")
    return image.caption_embeddings


def embed_texts_to(
    folder: Path,
    embedder: Embedder,
    source: Path,
    *,
    partition_rows: int = PARTITION_ROWS,
    dtype: str = "float32",
) -> EmbedReport:
    """Write the embeddings of texts to files.

    Args:
        folder: a new folder, or one in which a run over the same texts stopped.
        embedder: embeds them.
        source: a file with a text a line; or `.jsonl` with captions, whose other entries are kept
            in the metadata.
        partition_rows: texts in one partition.
        dtype: "float32" or "float16".

    Raises:
        DataError: there is no such file; the folder holds other files, or the texts or the settings
            have changed since it was started.
        ServerError: Triton failed; whole partitions stay.
    """
    started = time.monotonic()
    if not source.is_file():
        raise DataError(f"{source}: no such file; give one with a text a line, or a .jsonl")
    report = EmbedReport()
    write_manifest(
        folder,
        embedder.bundle,
        "texts",
        partition_rows=partition_rows,
        dtype=dtype,
        source=file_sha256(source),
    )
    done = finished(folder)
    texts = _texts(source, report)
    with progress_bar(rate="texts/s") as progress:
        task = progress.add_task("embed texts", total=None)
        number = 0
        while rows := list(islice(texts, partition_rows)):
            if number in done:
                report.known += 1
            else:
                embeddings = np.empty((len(rows), embedder.dim), dtype=np.float32)
                for start in range(0, len(rows), _TEXTS_AT_ONCE):
                    block = [str(row["caption"]) for row in rows[start : start + _TEXTS_AT_ONCE]]
                    embeddings[start : start + len(block)] = embedder.embed_texts(
                        block, allow_unknown=True
                    )
                    progress.advance(task, len(block))
                write_partition(folder, TEXTS, number, embeddings, rows, dtype)
                report.rows += len(rows)
                report.partitions += 1
            number += 1
    if not number:
        raise DataError(f"{source}: no text in it")
    report.seconds = time.monotonic() - started
    return report


def _texts(source: Path, report: EmbedReport) -> Iterator[Row]:
    if source.suffix.lower() == ".jsonl":
        yield from _unless_skip(text_records(source), report)
        return
    with source.open("rb") as file:
        for number, line in numbered_lines(file):
            try:
                text = None if line is None else line.decode("utf-8-sig").strip()
            except UnicodeDecodeError:
                text = None
            if text is None:
                report.skipped.append(Skip(f"{source}:{number}", "too long a line, or not UTF-8"))
            elif text:
                yield {"caption": text}


def _unless_skip(items: Iterable[Row | Skip], report: EmbedReport) -> Iterator[Row]:
    for item in items:
        if isinstance(item, Skip):
            report.skipped.append(item)
        else:
            yield item
