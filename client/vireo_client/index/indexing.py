"""Indexing of a folder of images, or of a captioned data set."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..bundle import file_sha256
from ..captions import CAPTIONS_FILE, CaptionedImage, Skip, read_captions
from ..embedder import Embedder, Embeddings
from ..errors import DataError
from ..images import find_images
from ..progress import progress_bar
from .catalogue import FileStamp
from .writer import IndexWriter, NewImage

SAVE_EVERY_SECONDS = 60.0


@dataclass
class IndexReport:
    """The outcome of a run of indexing."""

    added: int = 0
    unchanged: int = 0
    captions: int = 0
    skipped: list[Skip] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False


def list_images(source: Path) -> tuple[list[CaptionedImage], list[Skip]]:
    """List the images to index: the records of a captions file, or all images in a folder.

    Returns:
        The images with their captions, and the records that cannot be used.

    Raises:
        DataError: there is no such folder, or it holds no images.
    """
    if (source / CAPTIONS_FILE).is_file() or source.is_file():
        captions = read_captions(source)
        return captions.records, captions.skipped
    if not source.is_dir():
        raise DataError(f"{source}: no such folder")
    images = [CaptionedImage(path, ()) for path in find_images(source)]
    if not images:
        raise DataError(f"{source}: no images in this folder; nothing was changed")
    return images, []


def index_images(
    index: IndexWriter, embedder: Embedder, records: Sequence[CaptionedImage]
) -> IndexReport:
    """Embed images and their captions and save them, leaving out those that are already there.

    It saves every minute and at the end, also after Ctrl-C or when the towers fail, so that the
    images embedded until then are not lost.

    Raises:
        SearchIndexError: the index cannot be saved.
        ServerError: Triton failed; the images embedded until then are saved.
    """
    report = IndexReport()
    started = time.monotonic()
    changed = _list_changed(index, records, report)
    try:
        with progress_bar() as progress:
            task = progress.add_task("index images", total=len(changed))
            saved = started
            for batch in embedder.embed_image_stream(image.path for image in changed):
                report.skipped += batch.skipped
                images = [changed[p] for p in batch.positions]
                _add(index, embedder, images, batch.embeddings, report)
                progress.advance(task, len(batch.positions) + len(batch.skipped))
                if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                    index.save()
                    saved = time.monotonic()
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        if report.added:
            index.save()
    report.seconds = time.monotonic() - started
    return report


class _Changed(NamedTuple):
    """An image that is new or changed, and has to be embedded."""

    path: Path
    key: str
    captions: tuple[str, ...]
    stamp: FileStamp


def _list_changed(
    index: IndexWriter, records: Sequence[CaptionedImage], report: IndexReport
) -> list[_Changed]:
    """List the images that are new or changed; a file with several names is listed once."""
    captions: dict[str, list[str]] = {}
    for record in records:
        captions.setdefault(str(record.path.resolve()), []).extend(record.captions)
    changed = []
    for key, texts in captions.items():
        distinct = tuple(dict.fromkeys(texts))
        try:
            key.encode()
            status = os.stat(key)
        except UnicodeEncodeError:
            name = key.encode(errors="backslashreplace").decode()
            report.skipped.append(Skip(name, "its name is not UTF-8; rename it"))
            continue
        except OSError as error:
            report.skipped.append(Skip(key, str(error.strerror)))
            continue
        digest = hashlib.sha256("\0".join(distinct).encode()).hexdigest() if distinct else ""
        stamp = FileStamp(status.st_size, status.st_mtime_ns, digest)
        if index.is_current(key, stamp):
            report.unchanged += 1
        else:
            changed.append(_Changed(Path(key), key, distinct, stamp))
    return changed


def _add(
    index: IndexWriter,
    embedder: Embedder,
    images: Sequence[_Changed],
    embeddings: Embeddings,
    report: IndexReport,
) -> None:
    """Embed the captions of one batch, and add its images and captions to the index."""
    captions = embedder.embed_texts(
        [caption for image in images for caption in image.captions], allow_unknown=True
    )
    rows, start = [], 0
    for image, embedding in zip(images, embeddings, strict=True):
        end = start + len(image.captions)
        try:
            digest = file_sha256(image.path)
        except OSError as error:  # it went away since it was decoded
            report.skipped.append(Skip(image.key, str(error.strerror)))
        else:
            row = NewImage(
                image.key, digest, image.stamp, embedding, image.captions, captions[start:end]
            )
            rows.append(row)
        start = end
    index.add(rows)
    report.added += len(rows)
    report.captions += sum(len(row.captions) for row in rows)
