"""Indexing of a folder of images, or of a captioned data set."""

from __future__ import annotations

import hashlib
import logging
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
from ..folders import scan_folder
from ..progress import progress_bar
from .catalogue import FileStamp
from .changes import Move, NewImage
from .missing import Missing, find_missing, group_by_empty_folder
from .writer import IndexWriter

logger = logging.getLogger(__name__)

SAVE_EVERY_SECONDS = 60.0


@dataclass
class IndexReport:
    """The outcome of a run of indexing."""

    added: int = 0
    unchanged: int = 0
    captions: int = 0
    skipped: list[Skip] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)
    """Old and new path of images that were renamed or moved, and kept their embeddings."""
    removed: list[str] = field(default_factory=list)
    """Paths of images that left the index: their files are gone or are images no more, or the
    folder's `captions.jsonl` does not name them."""
    kept: dict[str, int] = field(default_factory=dict)
    """Empty folders whose images are gone but were kept, and how many: each may be a disk that is
    not mounted."""
    seconds: float = 0.0
    interrupted: bool = False


def list_images(
    source: Path, *, allow_empty: bool = False
) -> tuple[list[CaptionedImage], list[Skip]]:
    """List the images to index: the records of a captions file, or all images in a folder.

    Args:
        source: a folder, or a captions file.
        allow_empty: take a folder that is missing or has no images for an empty one.

    Returns:
        The images with their captions, and what cannot be used: records, dead links, folders that
        cannot be read. Files that are no images, and images that a folder's captions file does not
        name, are counted in the log.

    Raises:
        DataError: there is no such folder, it cannot be read, or it holds no images.
    """
    if (source / CAPTIONS_FILE).is_file() or source.is_file():
        captions = read_captions(source)
        if source.is_dir():
            _count_unnamed(source, captions.records)
        return captions.records, captions.skipped
    if not source.is_dir():
        if allow_empty:
            return [], []
        raise DataError(f"{source}: no such folder; nothing was changed")
    found = scan_folder(source)
    others = found.describe_others()
    if not found.images and not allow_empty:
        beside = [others] if others else []
        beside += [str(skip) for skip in found.skipped[:3]]
        holds = f" (it holds: {'; '.join(beside)})" if beside else ""
        raise DataError(
            f"{source}: no images in this folder{holds}; nothing was changed. If its disk is "
            "mounted and its images shall leave the index, give --yes"
        )
    if others:
        logger.warning("%s: passed over what is no image: %s", source, others)
    return [CaptionedImage(path, ()) for path in found.images], found.skipped


def _count_unnamed(folder: Path, records: Sequence[CaptionedImage]) -> None:
    """Log how many images of a folder its captions file does not name."""
    named = {os.path.realpath(record.path) for record in records}
    unnamed = [path for path in scan_folder(folder).images if os.path.realpath(path) not in named]
    if unnamed:
        logger.warning(
            "%s: %d images have no usable record in %s and are left out (the first: %s); add "
            "records for them, or index them from a folder without that file",
            folder, len(unnamed), CAPTIONS_FILE, unnamed[0],
        )  # fmt: skip


def index_images(
    index: IndexWriter,
    embedder: Embedder,
    records: Sequence[CaptionedImage],
    *,
    source: Path | None = None,
    keep_missing: bool = False,
    allow_empty: bool = False,
) -> IndexReport:
    """Bring an index to what was found in a folder; what is there already is not embedded again.

    It saves every minute and at the end, also after Ctrl-C or when the towers fail, so that the
    images embedded until then are not lost. Images leave the index in the last save only, of a run
    that was not interrupted. A renamed image has its old path or its new one in every save.

    Args:
        index: the index.
        embedder: embeds what is new or changed.
        records: all images of the folder, as `list_images` returns them.
        source: the folder or captions file that `records` were listed from. What is indexed from
            there and gone is removed, or moved where a file with the same bytes is found. Without
            it, images are only added and replaced.
        keep_missing: leave images alone whose files are gone.
        allow_empty: also remove images where an empty folder is left, or none at all; by default,
            `IndexReport.kept` names these folders.

    Raises:
        DataError: `records` is empty, the index holds images of `source`, and `allow_empty` is not
            given; nothing was changed.
        SearchIndexError: the index cannot be saved.
        ServerError: Triton failed; the images embedded until then are saved.
    """
    report = IndexReport()
    started = time.monotonic()
    changed, found = _list_changed(index, records, report)
    missing = Missing([], [], [], ())
    if source is not None and not keep_missing:
        missing = find_missing(source, index.stamps(), found)
        if missing.gone and not records and not allow_empty:
            raise DataError(
                f"{source}: no images here, but the index holds {len(missing.gone)} of them; "
                "nothing was changed. If its disk is mounted, give --yes"
            )
    if source is not None and not records and not missing.gone:
        raise DataError(f"{source}: no images here, and none of it in the index")
    ruined: list[str] = []
    try:
        moves = _find_moves(index, missing.gone, changed)
        index.move(moves)
        report.moved = [(move.old, move.new) for move in moves]
        paths = {move.new for move in moves}
        changed = [image for image in changed if image.key not in paths]
        with progress_bar() as progress:
            task = progress.add_task("index images", total=len(changed))
            saved = started
            for batch in embedder.embed_image_stream(image.path for image in changed):
                report.skipped += batch.skipped
                ruined += [skip.where for skip in batch.skipped]
                images = [changed[p] for p in batch.positions]
                _add(index, embedder, images, batch.embeddings, report)
                progress.advance(task, len(batch.positions) + len(batch.skipped))
                if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                    index.save()
                    saved = time.monotonic()
        if source is not None:
            suspects = ruined + missing.unlisted
            removed = _find_removed(index, missing, suspects, report, allow_empty=allow_empty)
            report.removed = removed  # first: a save after Ctrl-C would take what it does not tell
            index.remove(removed)
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        if report.added or report.moved or report.removed:
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
) -> tuple[list[_Changed], set[str]]:
    """List the images that are new or changed; a file with several names is listed once.

    Returns:
        These images, and the paths of all files that were found.
    """
    captions: dict[str, list[str]] = {}
    for record in records:
        captions.setdefault(str(record.path.resolve()), []).extend(record.captions)
    changed, found = [], set()
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
        found.add(key)
        digest = hashlib.sha256("\0".join(distinct).encode()).hexdigest() if distinct else ""
        stamp = FileStamp(status.st_size, status.st_mtime_ns, digest)
        if index.is_current(key, stamp):
            report.unchanged += 1
        else:
            changed.append(_Changed(Path(key), key, distinct, stamp))
    return changed, found


def _find_moves(index: IndexWriter, gone: Sequence[str], changed: Sequence[_Changed]) -> list[Move]:
    """Find the images that are gone and whose bytes, with the same captions, are elsewhere now."""
    stamps = index.stamps()
    sizes = {stamps[path].bytes for path in gone}
    candidates = [image for image in changed if image.stamp.bytes in sizes]
    if not candidates:
        return []
    hashes = index.hashes()
    olds: dict[str, list[str]] = {}
    for path in gone:
        if path in hashes:
            olds.setdefault(hashes[path], []).append(path)
    moves = []
    for image in candidates:
        try:
            same = olds.get(file_sha256(image.path), [])
        except OSError:  # embedding it will say why
            continue
        for old in same:
            if image.stamp.captions in ("", stamps[old].captions):
                moves.append(Move(old, image.key, image.stamp))
                same.remove(old)
                break
    return moves


def _find_removed(
    index: IndexWriter,
    missing: Missing,
    suspects: Sequence[str],
    report: IndexReport,
    *,
    allow_empty: bool,
) -> list[str]:
    """List the images that leave the index, and report those that could but are kept."""
    moved = {old for old, _ in report.moved}
    gone = [path for path in missing.gone if path not in moved]
    kept = {} if allow_empty else group_by_empty_folder(gone, missing.roots)
    report.kept = {folder: len(paths) for folder, paths in kept.items()}
    staying = {path for paths in kept.values() for path in paths}
    removed = [path for path in gone if path not in staying] + missing.unnamed
    if suspects:  # what they hold now is no image; if it is what was indexed, they stay
        hashes = index.hashes()
        removed += [path for path in suspects if path in hashes and _is_other(path, hashes[path])]
    return removed


def _is_other(path: str, sha256: str) -> bool:
    """Return whether a file was read and has other contents."""
    try:
        return file_sha256(Path(path)) != sha256
    except OSError:  # it may not be read now, which says nothing of its contents
        return False


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
