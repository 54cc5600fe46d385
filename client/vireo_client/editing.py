"""Adding images to an index and removing them, by a program that searches it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .bundle import Bundle
from .captions import CaptionedImage
from .embedder import Embedder
from .errors import DataError
from .index.maintenance import info
from .index.writer import IndexWriter
from .indexing.pipeline import index_images
from .indexing.report import IndexReport

Paths = Iterable[str | Path]
Captions = Sequence[str | Sequence[str]]
"""The captions of each image: one string, or several."""
Fields = Sequence[Mapping[str, str | int | float]]
"""The columns of each image, by name."""


def add_images(
    folder: Path,
    bundle: Bundle,
    embedder: Embedder,
    paths: Paths,
    captions: Captions | None,
    fields: Fields | None,
) -> IndexReport:
    """Embed images and add them to an index, in place of what it holds of the same paths.

    Args:
        folder: the index.
        bundle: the bundle that made it.
        embedder: embeds images and captions.
        paths: the images' files.
        captions: of each image.
        fields: of each image.

    Returns:
        What was added, and what was skipped and why.

    Raises:
        DataError: there are not as many captions or fields as images, a field has a value that
            its column cannot hold, or `paths` is a single path.
        SearchIndexError: there is no index.
        IndexLocked: another writer is at work in the index; the message says who.
    """
    files = _listed(paths)
    texts: Captions = captions if captions is not None else [()] * len(files)
    values: Fields = fields if fields is not None else [{}] * len(files)
    for name, given in (("captions", texts), ("fields", values)):
        if isinstance(given, (str, Mapping)) or len(given) != len(files):
            count = "one" if isinstance(given, (str, Mapping)) else str(len(given))
            raise DataError(f"{len(files)} images, but {count} {name}; give a list, one an image")
    records = [
        CaptionedImage(path, (text,) if isinstance(text, str) else tuple(text), fields=dict(value))
        for path, text, value in zip(files, texts, values, strict=True)
    ]
    with _open_writer(folder, bundle) as writer:
        report = index_images(writer, embedder, records)
    if report.interrupted:
        raise KeyboardInterrupt
    return report


def remove_images(folder: Path, bundle: Bundle, paths: Paths) -> int:
    """Remove images and their captions from an index; their files stay.

    Args:
        folder: the index.
        bundle: the bundle that made it.
        paths: of the images, as matches name them or as they were added; one that occurs twice
            counts once.

    Returns:
        How many images were removed.

    Raises:
        DataError: one is not in the index; nothing was removed.
        SearchIndexError: there is no index.
        IndexLocked: another writer is at work in the index; the message says who.
    """
    files = _listed(paths)
    with _open_writer(folder, bundle) as writer:
        indexed = writer.stamps()
        named = []
        for path in files:
            # A match's path is without links; what a caller has at hand may have some.
            found = next((p for p in (str(path), str(path.resolve())) if p in indexed), None)
            if found is None:
                raise DataError(f"{path}: not in the index {folder}; nothing was removed")
            named.append(found)
        named = list(dict.fromkeys(named))
        if named:
            writer.remove(named)
            writer.save()
    return len(named)


def _open_writer(folder: Path, bundle: Bundle) -> IndexWriter:
    info(folder)  # a writer would make an index where there is none
    return IndexWriter(folder, bundle)


def _listed(paths: Paths) -> list[Path]:
    if isinstance(paths, (str, bytes, Path)):
        raise DataError("expected a list of paths, got one; put it in a list")
    return [Path(path) for path in paths]
