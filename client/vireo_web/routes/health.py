"""`/healthz`, `/readyz` and `/metrics`: for what watches this server."""

from __future__ import annotations

import time

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from ..jobs import ENDED
from ..problems import problem_of
from ..state import StateOf

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """Tell that this process answers."""
    return {"status": "alive"}


@router.get("/readyz", response_model=dict[str, str])
async def ready(state: StateOf) -> dict[str, str] | Response:
    """Tell whether searches can be answered now."""
    error = await state.library.problem()
    return {"status": "ready"} if error is None else problem_of(error)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(state: StateOf) -> PlainTextResponse:
    """Return the metrics for Prometheus."""
    gauges = {"uptime_seconds": time.time() - state.started}
    gauges["jobs"] = sum(job.state not in ENDED for job in state.jobs.all())
    text = state.metrics.text(gauges)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
