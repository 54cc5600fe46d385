"""The stages of bulk work on images, which overlap: worker threads read, the towers embed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from ..cores import usable_cores
from ..embedder import Embedder
from ..index.changes import NewImage
from ..overlap import batched, map_ahead
from ..telemetry import stage
from .candidates import Candidate
from .workers import Known, Prepared, Worker

_FIRST_BATCH = 8
"""Images of the first batch: the towers begin when these are decoded."""


def embed_candidates(
    embedder: Embedder,
    candidates: Sequence[Candidate],
    known: Known,
    settle: Callable[[Prepared], None],
    *,
    root: Path | None = None,
    workers: int | None = None,
) -> Generator[list[NewImage], None, None]:
    """Read, decode and embed images, and yield them batch by batch.

    Worker threads are a bounded number of images ahead, and the towers get the next batch before
    they have answered the last one.

    Args:
        embedder: embeds images and captions.
        candidates: the images.
        known: what is known already and needs no embedding.
        settle: called for each image that is not embedded, in the caller's thread.
        root: the folder that the images' folders are told from.
        workers: threads that read and decode; by default as many as this process has cores.

    Raises:
        ServerError: Triton failed.
    """
    worker = Worker(embedder.bundle.config.image, known, root)
    size, in_flight = embedder.towers.max_batch_size, embedder.batches_in_flight
    with ExitStack() as opened:
        reading = opened.enter_context(
            ThreadPoolExecutor(workers or usable_cores(), thread_name_prefix="vireo-read")
        )
        embedding = opened.enter_context(
            ThreadPoolExecutor(in_flight, thread_name_prefix="vireo-embed")
        )
        # The streams are closed before the threads, which then have nothing left to begin.
        prepared = opened.enter_context(
            closing(map_ahead(reading, worker.prepare, candidates, size * (in_flight + 1)))
        )
        batches = batched(_to_embed(prepared, settle), size, first=_FIRST_BATCH)
        yield from opened.enter_context(
            closing(map_ahead(embedding, lambda batch: _embed(embedder, batch), batches, in_flight))
        )


def _to_embed(
    prepared: Iterable[Prepared], settle: Callable[[Prepared], None]
) -> Iterator[Prepared]:
    for item in prepared:
        if item.pixels is not None:
            yield item
        else:
            settle(item)


def _embed(embedder: Embedder, batch: list[Prepared]) -> list[NewImage]:
    """Embed one batch of images, and their captions."""
    texts = [caption for item in batch for caption in item.image.captions]
    with stage("embed"):
        vectors = embedder.embed_pixels([item.pixels for item in batch if item.pixels is not None])
        of_captions = embedder.embed_texts(texts, allow_unknown=True)
    images, start = [], 0
    for item, vector in zip(batch, vectors, strict=True):
        path, captions, fields, stamp, _ = item.image
        end = start + len(captions)
        images.append(
            NewImage(path, item.sha256, stamp, vector, captions, of_captions[start:end], fields)
        )
        start = end
    return images
