"""Brings an index to what a source holds: workers read, the towers embed, the writer adds.

The three overlap (`stages`). Each batch that the towers answer is added at once, and the index's
journal keeps it from then on: a kill costs the batches that were in the towers.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event

from ..bundle import file_sha256
from ..captions import CaptionedImage
from ..embedder import Embedder
from ..errors import DataError, VireoError
from ..index.changes import Move
from ..index.neutral import embed_with
from ..index.rows import FileStamp
from ..index.writer import IndexWriter
from ..progress import progress_bar
from ..telemetry import stage
from .candidates import Candidate, list_candidates
from .missing import Missing, find_missing, group_by_empty_folder
from .report import IndexReport
from .stages import embed_candidates
from .workers import Known, Prepared

logger = logging.getLogger(__name__)

SAVE_EVERY_SECONDS = 60.0

OnProgress = Callable[[IndexReport, int, int], None]
"""Takes the report so far, the images that are done, and how many there are to do."""


def index_images(
    index: IndexWriter,
    embedder: Embedder,
    records: Sequence[CaptionedImage],
    *,
    source: Path | None = None,
    keep_missing: bool = False,
    allow_empty: bool = False,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
    stop: Event | None = None,
) -> IndexReport:
    """Bring an index to what was found in a source; what is there already is not embedded again.

    Each batch is in the index's journal when it is embedded, so that a process that is killed goes
    on where it stopped. It saves every minute and at the end, also after Ctrl-C or when the towers
    fail. Images leave the index in the last save only, of a run that was not interrupted. A renamed
    image has its old path or its new one in every save.

    Args:
        index: the index.
        embedder: embeds what is new or changed.
        records: all images of the source, as `list_images` returns them.
        source: the folder, captions file or archive that `records` were listed from. What is
            indexed from there and gone is removed, or moved where a file with the same bytes is
            found. Without it, images are only added and replaced.
        keep_missing: leave images alone whose files are gone.
        allow_empty: also remove images where an empty folder is left, or none at all; by default,
            `IndexReport.kept` names these folders.
        workers: threads that read, hash and decode; by default as many as this process has cores.
        on_progress: called in this thread as images are done.
        stop: set by another thread, the run ends as after Ctrl-C: `IndexReport.interrupted`.

    Raises:
        DataError: `records` is empty, the index holds images of `source`, and `allow_empty` is not
            given; nothing was changed.
        SearchIndexError: the index cannot be saved.
        ServerError: Triton failed; the images embedded until then are saved.
    """
    report = IndexReport()
    started = time.monotonic()
    indexed = index.stamps()
    candidates, found = list_candidates(indexed, records, report)
    missing = Missing([], [], [], ())
    if source is not None and not keep_missing:
        missing = find_missing(source, indexed, found)
        if missing.gone and not records and not allow_empty:
            raise DataError(
                f"{source}: no images here, but the index holds {len(missing.gone)} of them; "
                "nothing was changed. If its disk is mounted, give --yes"
            )
    if source is not None and not records and not missing.gone:
        raise DataError(f"{source}: no images here, and none of it in the index")
    run = _Run(index, embedder, report, root_of(source), on_progress, stop)
    try:
        # First what may be a renamed image, so that a run that is cut short loses none.
        sizes = {indexed[path].bytes for path in missing.gone}
        candidates.sort(key=lambda image: image.stamp.bytes not in sizes)
        run.add(candidates, _known(index, indexed, candidates, missing), workers)
        if source is not None:
            removed = _find_removed(index, missing, run.unusable, report, allow_empty=allow_empty)
            run.remove(removed)
        run.save()
        run.learn()
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        run.save()
    report.seconds = time.monotonic() - started
    return report


def root_of(source: Path | None) -> Path | None:
    """Return the folder that the folders of a source's images are told from, without links."""
    if source is None:
        return None
    return Path(os.path.realpath(source.parent if source.is_file() else source))


class _Run:
    """One run: the images that it adds, and what it tells of them."""

    def __init__(
        self,
        index: IndexWriter,
        embedder: Embedder,
        report: IndexReport,
        root: Path | None,
        on_progress: OnProgress | None,
        stop: Event | None,
    ) -> None:
        self._index, self._embedder, self._report, self._root = index, embedder, report, root
        self._on_progress, self._stop = on_progress, stop
        self._done = self._total = 0
        self._saved = time.monotonic()
        self.unusable: dict[str, str] = {}
        """SHA-256 of files that were read and are no images, by path."""

    def add(self, candidates: list[Candidate], known: Known, workers: int | None) -> None:
        """Read, embed and add images."""
        with progress_bar(rate="images/s") as progress:
            task = progress.add_task("index images", total=len(candidates))
            # What list_candidates passed over is done.
            self._done = self._report.unchanged + len(self._report.skipped)
            self._total = self._done + len(candidates)
            self._advance(0)

            def settle(item: Prepared) -> None:
                self._settle(item)
                progress.advance(task)
                self._advance(1)

            stream = embed_candidates(
                self._embedder, candidates, known, settle, root=self._root, workers=workers
            )
            with closing(stream) as batches:
                for images in batches:
                    with stage("add"):
                        self._index.add(images)
                    self._report.added += len(images)
                    self._report.captions += sum(len(image.captions) for image in images)
                    progress.advance(task, len(images))
                    self._advance(len(images))
                    if time.monotonic() - self._saved > SAVE_EVERY_SECONDS:
                        self.save()

    def _advance(self, images: int) -> None:
        self._done += images
        if self._on_progress is not None:
            self._on_progress(self._report, self._done, self._total)
        if self._stop is not None and self._stop.is_set():
            raise KeyboardInterrupt

    def _settle(self, item: Prepared) -> None:
        """See to an image that needs no embedding."""
        path = item.image.path
        if item.skip is not None:
            self._report.skipped.append(item.skip)
            if item.sha256:
                self.unusable[path] = item.sha256
        elif item.moved_from is not None:
            self._index.move([Move(item.moved_from, path, item.image.stamp)])
            self._report.moved.append((item.moved_from, path))
        else:
            self._index.restamp(path, item.image.stamp)
            self._report.unchanged += 1

    def remove(self, paths: list[str]) -> None:
        """Remove images."""
        self._report.removed = paths  # first: a save after Ctrl-C would take what it does not tell
        self._index.remove(paths)

    def save(self) -> None:
        """Save what has changed since the last save, and what a run that was killed had added."""
        with stage("save"):
            self._index.save()
        self._saved = time.monotonic()

    def learn(self) -> None:
        """Learn what a score is worth, where the index has no captions to learn it from."""
        try:
            with stage("learn"):
                embedder = self._embedder
                self._index.learn_relevance(embed_with(embedder.bundle, embedder.embed_texts))
        except VireoError as error:  # the images are in the index; the next run tries again
            logger.warning("%s: learned nothing of relevance (%s)", self._index.folder, error)


def _known(
    index: IndexWriter,
    indexed: Mapping[str, FileStamp],
    candidates: list[Candidate],
    missing: Missing,
) -> Known:
    wanted = {image.path for image in candidates if image.path in indexed} | {*missing.gone}
    if not wanted:
        return Known({}, {}, ())
    hashes = {path: sha256 for path, sha256 in index.hashes().items() if path in wanted}
    return Known(hashes, {path: indexed[path] for path in wanted}, missing.gone)


def _find_removed(
    index: IndexWriter,
    missing: Missing,
    unusable: Mapping[str, str],
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
    if unusable or missing.unlisted:  # if what they hold is what was indexed, they stay
        hashes = index.hashes()
        removed += [p for p, sha256 in unusable.items() if hashes.get(p, sha256) != sha256]
        removed += [p for p in missing.unlisted if p in hashes and _is_other(p, hashes[p])]
    return removed


def _is_other(path: str, sha256: str) -> bool:
    """Return whether a file was read and has other contents."""
    try:
        return file_sha256(Path(path)) != sha256
    except OSError:  # it may not be read now, which says nothing of its contents
        return False
