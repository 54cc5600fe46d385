"""Puts a folder of pictures, or a captioned data set, into an index."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .bundle import file_sha256
from .captions import CAPTIONS_FILE, CaptionedImage, Skip, read_captions
from .catalogue import FileStamp
from .embedder import Embedder
from .errors import DataError
from .images import find_images
from .index import Index, NewImage
from .progress import progress_bar

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

    Saves every minute, at the end, and when interrupted: what was embedded is not lost.
    """
    report = IndexReport()
    started = saved = time.monotonic()
    fresh: list[tuple[CaptionedImage, FileStamp]] = []
    for record in records:
        status = os.stat(record.path)
        stamp = FileStamp(status.st_size, status.st_mtime_ns)
        if index.is_current(_key(record), stamp):
            report.unchanged += 1
        else:
            fresh.append((record, stamp))
    try:
        with progress_bar() as progress:
            task = progress.add_task("index pictures", total=len(fresh))
            for batch in embedder.embed_image_stream(record.path for record, _ in fresh):
                chosen = [fresh[position] for position in batch.positions]
                texts = [c for record, _ in chosen for c in record.captions]
                vectors = embedder.embed_texts(texts)
                rows, start = [], 0
                for (record, stamp), embedding in zip(chosen, batch.embeddings, strict=True):
                    end = start + len(record.captions)
                    digest = file_sha256(record.path)
                    rows.append(
                        NewImage(_key(record), digest, stamp, embedding, record.captions,
                                 vectors[start:end])
                    )  # fmt: skip
                    start = end
                index.add(rows)
                report.added += len(rows)
                report.captions += len(texts)
                report.skipped += batch.skipped
                progress.advance(task, len(batch.positions) + len(batch.skipped))
                if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                    index.save()
                    saved = time.monotonic()
    except KeyboardInterrupt:
        report.interrupted = True
    if report.added:
        index.save()
    report.seconds = time.monotonic() - started
    return report


def _key(record: CaptionedImage) -> str:
    return str(record.path.resolve())
