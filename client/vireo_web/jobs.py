"""Jobs of indexing: one after another, in a thread that no browser has to wait for.

A job brings the index to what a folder holds, as `vireo index` does. It can be cancelled, and what
was embedded until then is kept; resumed, it passes over what it did.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

from vireo_client.captions import Skip
from vireo_client.errors import VireoError
from vireo_client.index.writer import IndexWriter
from vireo_client.indexing.pipeline import index_images
from vireo_client.indexing.report import IndexReport
from vireo_client.indexing.sources import list_images
from vireo_client.printing import printable

from .library import Library
from .problems import ConflictError, NotFoundError
from .schemas import JobAnswer, JobState, SkippedFile

logger = logging.getLogger(__name__)

ENDED = ("done", "cancelled", "failed")

_SHOWN = 200
"""Skipped files of a job that are told by name."""
_REMEMBERED = 50
"""Jobs that are remembered."""
_QUEUED = 20
"""Jobs that may wait."""
_RATE_SECONDS = 10.0
"""The time over which the rate is measured."""


@dataclass(eq=False)
class Job:
    """One folder that is indexed; its worker writes it, and others read it."""

    folder: Path
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: JobState = "queued"
    done: int = 0
    total: int | None = None
    report: IndexReport = field(default_factory=IndexReport)
    listed: list[Skip] = field(default_factory=list)
    """What was skipped while the folder was listed."""
    error: str | None = None
    stop: Event = field(default_factory=Event)
    _times: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=256))

    def advance(self, report: IndexReport, done: int, total: int) -> None:
        """Note how far the job is."""
        self.report, self.done, self.total = report, done, total
        now = time.monotonic()
        self._times.append((now, done))
        while now - self._times[0][0] > _RATE_SECONDS:
            self._times.popleft()

    def start(self) -> None:
        """Begin, or begin again."""
        self.done, self.total, self.error = 0, None, None
        self.report, self.listed = IndexReport(), []
        self._times.clear()
        self.state = "running"

    def answer(self) -> JobAnswer:
        """Return the job as the API tells it."""
        rate = self._rate()
        left = None
        if self.state == "running" and self.total is not None and rate > 0:
            left = round((self.total - self.done) / rate, 1)
        report = self.report
        skipped = [*self.listed, *itertools.islice(report.skipped, _SHOWN)][:_SHOWN]
        return JobAnswer(
            id=self.id,
            folder=printable(self.folder),
            state=self.state,
            done=self.done,
            total=self.total,
            rate=round(rate, 2),
            seconds_left=left,
            added=report.added,
            removed=len(report.removed),
            unchanged=report.unchanged,
            skipped=[
                SkippedFile(path=printable(skip.where), reason=printable(skip.reason))
                for skip in skipped
            ],
            skipped_count=len(self.listed) + len(report.skipped),
            error=None if self.error is None else printable(self.error),
        )

    def _rate(self) -> float:
        if self.state in ENDED:
            report = self.report
            return report.added / report.seconds if report.seconds else 0.0
        times = list(self._times)
        if len(times) < 2 or times[-1][0] <= times[0][0]:
            return 0.0
        return (times[-1][1] - times[0][1]) / (times[-1][0] - times[0][0])


class Jobs:
    """The jobs of one index; one runs, the others wait."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._jobs: dict[str, Job] = {}
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="vireo-index")

    def add(self, folder: Path) -> Job:
        """Begin to index a folder, or queue it; a folder that waits already is not queued twice.

        Raises:
            ConflictError: too many jobs wait.
        """
        with self._lock:
            waiting = [job for job in self._jobs.values() if job.state not in ENDED]
            for job in waiting:
                if job.folder == folder and not job.stop.is_set():
                    return job
            if len(waiting) > _QUEUED:
                raise ConflictError(f"{len(waiting)} folders wait to be indexed; try again later")
            job = Job(folder)
            self._jobs[job.id] = job
            self._forget_oldest()
            self._worker.submit(self._run, job)
        return job

    def _forget_oldest(self) -> None:
        ended = [id_ for id_, job in self._jobs.items() if job.state in ENDED]
        for id_ in ended[: max(0, len(self._jobs) - _REMEMBERED)]:
            del self._jobs[id_]

    def get(self, id_: str) -> Job:
        """Return a job.

        Raises:
            NotFoundError: there is none, or it ended long ago.
        """
        job = self._jobs.get(id_)
        if job is None:
            raise NotFoundError(f"no job {id_[:40]!r}; it may have been of an earlier start")
        return job

    def all(self) -> list[Job]:
        """Return the jobs that are remembered, the oldest first."""
        return list(self._jobs.values())

    def is_running(self) -> bool:
        """Return whether a job is under way or waits."""
        return any(job.state not in ENDED for job in self.all())

    def cancel(self, id_: str) -> Job:
        """Cancel a job; one that ended stays as it is.

        Raises:
            NotFoundError: there is no such job.
        """
        job = self.get(id_)
        with self._lock:
            job.stop.set()
            if job.state == "queued":
                job.state = "cancelled"
        return job

    def resume(self, id_: str) -> Job:
        """Go on with a job that was cancelled or failed.

        Raises:
            NotFoundError: there is no such job.
            ConflictError: it has not ended, or is done.
        """
        job = self.get(id_)
        with self._lock:
            if job.state not in ("cancelled", "failed"):
                raise ConflictError(
                    f"the job is {job.state}; only one that was cancelled or failed goes on"
                )
            job.stop.clear()
            job.state = "queued"
            self._worker.submit(self._run, job)
        return job

    def _run(self, job: Job) -> None:
        with self._lock:
            if job.state != "queued":
                return
            job.start()
        try:
            self._index(job)
            state: JobState = "cancelled" if job.report.interrupted else "done"
        except KeyboardInterrupt:  # stopped before anything was embedded
            state = "cancelled"
        except (VireoError, OSError) as error:
            job.error, state = str(error), "failed"
            logger.warning("%s: not indexed (%s)", job.folder, error)
        except Exception:
            job.error, state = "a fault of this server; its log has the cause", "failed"
            logger.exception("%s: not indexed", job.folder)
        self._library.retry()  # there may be an index now
        with self._lock:
            job.state = state

    def _index(self, job: Job) -> None:
        records, job.listed = list_images(job.folder)
        with self._library.open_bulk_embedder() as embedder:
            if job.stop.is_set():
                raise KeyboardInterrupt
            with IndexWriter(self._library.settings.index, embedder.bundle) as writer:
                report = index_images(
                    writer,
                    embedder,
                    records,
                    source=job.folder,
                    on_progress=job.advance,
                    stop=job.stop,
                )
                job.report = report
                if not report.interrupted:
                    writer.compact_if_due()

    def close(self) -> None:
        """Cancel all jobs and wait for the one under way to save what it has."""
        for job in self.all():
            job.stop.set()
        self._worker.shutdown(cancel_futures=True)
