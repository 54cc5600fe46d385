"""`/healthz`, `/readyz` and `/metrics`: for what watches this server."""

from __future__ import annotations

import time

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from ..jobs import ENDED
from ..state import StateOf

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """Tell that this process answers."""
    return {"status": "alive"}


@router.get("/readyz")
async def ready(state: StateOf) -> dict[str, str]:
    """Tell whether searches can be answered now."""
    await state.library.check()
    return {"status": "ready"}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(state: StateOf) -> PlainTextResponse:
    """Return the metrics for Prometheus."""
    gauges = {"uptime_seconds": time.time() - state.started}
    gauges["jobs"] = sum(job.state not in ENDED for job in state.jobs.all())
    text = state.metrics.text(gauges)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
