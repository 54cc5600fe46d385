"""The application: routes, guards and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from vireo_client import __version__

from . import problems
from .guards import Guard
from .routes import (
    describe,
    embed,
    folders,
    health,
    images,
    index,
    info,
    openai,
    search,
    session,
)
from .settings import Settings
from .state import State

STATIC = Path(__file__).parent / "static"
_ROUTERS = (search, describe, images, index, folders, embed, openai, info, session, health)


class _PageFiles(StaticFiles):
    """The page's files, which a browser asks for again: after an update, all are of one version."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_app(settings: Settings) -> FastAPI:
    """Make the application for one index.

    It opens index and model at their first use, so that it starts without either. It belongs to
    one event loop, and one process: jobs and batches are its own.

    Args:
        settings: what is served, and to whom.
    """
    state = State(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.start()
        try:
            yield
        finally:
            await state.close()

    app = FastAPI(
        title="Vireo",
        version=__version__,
        summary="Find images from Vietnamese queries, and from images.",
        description="Errors are problem details (RFC 9457), with the error's name in `error`.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        responses=problems.RESPONSES,
    )
    app.state.vireo = state
    problems.install(app)
    for module in _ROUTERS:
        app.include_router(module.router)
    app.mount("/static", _PageFiles(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.add_middleware(Guard, settings=settings, metrics=state.metrics)
    if settings.origins:  # outside of the guard, so that pages of theirs can read its refusals
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Vireo-Generation", "Retry-After"],
        )
    return app
