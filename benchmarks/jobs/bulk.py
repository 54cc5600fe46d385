"""Bulk indexing in the background of a load."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING

from ..models import build

if TYPE_CHECKING:
    from .run import Run
    from .subjects import Subject


@contextmanager
def indexing_meanwhile(run: Run, subject: Subject, url: str) -> Iterator[None]:
    """Index images through the same server, again and again, until the block ends.

    Without `run.bulk` it does nothing.
    """
    if not run.bulk:
        yield
        return
    context = multiprocessing.get_context("spawn")
    stop, started = context.Event(), context.Event()
    folder = run.work / "bulk"
    process = context.Process(
        target=_index, args=(subject.repository, url, build.scenes(run.work), folder, started, stop)
    )
    process.start()
    try:
        if not started.wait(120):
            raise RuntimeError("bulk indexing did not start within 120 s; see its error above")
        yield
    finally:
        stop.set()
        process.join()
        shutil.rmtree(folder, ignore_errors=True)
    if process.exitcode:
        raise RuntimeError("bulk indexing failed; its error is printed above")


def _index(
    repository: Path, url: str, scenes: Path, folder: Path, started: Event, stop: Event
) -> None:
    from vireo_client.bundle import Bundle
    from vireo_client.captions import CaptionedImage, read_captions
    from vireo_client.index import IndexWriter
    from vireo_client.indexing.pipeline import index_images
    from vireo_client.search import open_embedder

    bundle = Bundle(repository)
    records = [CaptionedImage(record.path, ()) for record in read_captions(scenes).records]
    with open_embedder(bundle, url, bulk=True) as embedder:
        while not stop.is_set():
            shutil.rmtree(folder, ignore_errors=True)
            with IndexWriter(folder, bundle) as writer:
                index_images(writer, embedder, records)
            started.set()
