"""Puts a folder of pictures, or a captioned data set, into an index."""

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
from .reader import Index, NewImage

SAVE_EVERY_SECONDS = 60.0


@dataclass
class IndexReport:
    """What a run of indexing did."""

    added: int = 0
    unchanged: int = 0
    captions: int = 0
    skipped: list[Skip] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False


def list_pictures(source: Path) -> tuple[list[CaptionedImage], list[Skip]]:
    """Lists what is to be indexed: the records of a captions file, or every picture in a folder.

    Raises:
        DataError: no such folder, or no picture in it.
    """
    if (source / CAPTIONS_FILE).is_file() or source.is_file():
        captions = read_captions(source)
        return captions.records, captions.skipped
    if not source.is_dir():
        raise DataError(f"{source}: no such folder")
    found = [CaptionedImage(path, ()) for path in find_images(source)]
    if not found:
        raise DataError(f"{source}: no pictures in this folder; nothing was changed")
    return found, []


def index_pictures(
    index: Index, embedder: Embedder, records: Sequence[CaptionedImage]
) -> IndexReport:
    """Embeds pictures and their captions and saves them, leaving out what is already there.

    Saves every minute and at the end, also when it is interrupted or the towers fail: what was
    embedded is not lost.

    Raises:
        SearchIndexError: the index cannot be saved.
        ServerError: Triton failed; what was embedded before is saved.
    """
    report = IndexReport()
    started = time.monotonic()
    fresh = _changed(index, records, report)
    try:
        with progress_bar() as progress:
            task = progress.add_task("index pictures", total=len(fresh))
            saved = started
            for batch in embedder.embed_image_stream(picture.path for picture in fresh):
                report.skipped += batch.skipped
                _add(index, embedder, [fresh[p] for p in batch.positions], batch.embeddings, report)
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


class _Fresh(NamedTuple):
    """A picture that has to be embedded."""

    path: Path
    key: str
    captions: tuple[str, ...]
    stamp: FileStamp


def _changed(index: Index, records: Sequence[CaptionedImage], report: IndexReport) -> list[_Fresh]:
    """Lists what is new or changed, each file once under whatever names it came."""
    captions: dict[str, list[str]] = {}
    for record in records:
        captions.setdefault(str(record.path.resolve()), []).extend(record.captions)
    fresh = []
    for key, texts in captions.items():
        sentences = tuple(dict.fromkeys(texts))
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
        digest = hashlib.sha256("\0".join(sentences).encode()).hexdigest() if sentences else ""
        stamp = FileStamp(status.st_size, status.st_mtime_ns, digest)
        if index.is_current(key, stamp):
            report.unchanged += 1
        else:
            fresh.append(_Fresh(Path(key), key, sentences, stamp))
    return fresh


def _add(
    index: Index,
    embedder: Embedder,
    pictures: Sequence[_Fresh],
    embeddings: Embeddings,
    report: IndexReport,
) -> None:
    """Embeds the sentences of one batch and adds all of it to the index."""
    texts = [caption for picture in pictures for caption in picture.captions]
    vectors = embedder.embed_texts(texts)
    rows, start = [], 0
    for picture, embedding in zip(pictures, embeddings, strict=True):
        end = start + len(picture.captions)
        try:
            digest = file_sha256(picture.path)
        except OSError as error:  # it went away since it was decoded
            report.skipped.append(Skip(picture.key, str(error.strerror)))
        else:
            rows.append(
                NewImage(
                    picture.key,
                    digest,
                    picture.stamp,
                    embedding,
                    picture.captions,
                    vectors[start:end],
                )
            )
        start = end
    index.add(rows)
    report.added += len(rows)
    report.captions += sum(len(row.captions) for row in rows)
