"""`/v1/index`: jobs that bring the index to what a folder holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent

from ..choosing import check_allowed
from ..jobs import ENDED, Job
from ..schemas import IndexRequest, OneJob
from ..state import StateOf

router = APIRouter(prefix="/v1/index", tags=["index"])

_EVERY = 0.25
"""Seconds between two looks at a job."""


def _job(state: StateOf, job: str) -> Job:
    return state.jobs.get(job)  # an error is one before the stream begins


@router.post("", status_code=202)
async def begin(state: StateOf, request: IndexRequest) -> OneJob:
    """Begin to index a folder; it goes on when the caller goes away."""
    folder = await state.on_files(check_allowed, request.folder, state.roots)
    return OneJob(job=state.jobs.add(folder).answer())


@router.get("/{job}")
async def job_state(state: StateOf, job: str) -> OneJob:
    """Tell how far a job is."""
    return OneJob(job=state.jobs.get(job).answer())


@router.get("/{job}/events", response_class=EventSourceResponse)
async def events(job: Annotated[Job, Depends(_job)]) -> AsyncIterator[ServerSentEvent]:
    """Send `progress` whenever the job has changed, and `end` at its end."""
    last = None
    while True:
        answer = job.answer()
        ended = answer.state in ENDED
        if ended or answer != last:
            yield ServerSentEvent(data=answer, event="end" if ended else "progress")
        if ended:
            return
        last = answer
        await asyncio.sleep(_EVERY)


@router.delete("/{job}")
async def cancel(state: StateOf, job: str) -> OneJob:
    """Cancel a job; what it has done is kept."""
    return OneJob(job=state.jobs.cancel(job).answer())


@router.post("/{job}/resume", status_code=202)
async def resume(state: StateOf, job: str) -> OneJob:
    """Go on with a job that was cancelled or failed."""
    return OneJob(job=state.jobs.resume(job).answer())
