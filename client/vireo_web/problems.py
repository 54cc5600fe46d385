"""Errors as problem details (RFC 9457): one table from the client's error types to HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from vireo_client import errors
from vireo_client.errors import SearchIndexError, VireoError
from vireo_client.printing import json_line

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2
"""After how long a caller should try again where the cause is likely to pass."""


_QUIET_SECONDS = 60.0
"""For how long the same message is not logged again."""


class Problem(BaseModel):
    """What is answered in place of an answer, as `application/problem+json`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str = Field(description="What was wrong.")
    error: str = Field(description="The name of the error.", examples=["DataError"])
    hint: str | None = Field(None, description="What to do.")


class NotFoundError(VireoError):
    """The index has no such image, the server has no such job or folder."""


class GoneError(VireoError):
    """The index has the image, but its file is gone or is no image any more."""


class NotAllowedError(VireoError):
    """The caller may not do this, here or at all."""


class KeyRequiredError(VireoError):
    """The request shows no key, or a wrong one."""


class WrongHostError(VireoError):
    """The request names a host that is not this server."""


class TooLargeError(VireoError):
    """The request is larger than the server takes."""


class TooSlowError(VireoError):
    """The request did not arrive in time, or its answer did not."""


class ReplacedError(SearchIndexError):
    """The index was replaced by one of another bundle while a query was embedded."""


class ConflictError(VireoError):
    """The request does not fit the state that something is in."""


def _described(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}}


RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": _described("What was wrong with the request."),
    "503": _described("Not now; `Retry-After` says when to try again."),
}
"""What every operation may answer besides, for the OpenAPI document."""


STATUS: Mapping[type[VireoError], int] = {
    errors.ImageError: 422,
    errors.DataError: 422,
    errors.IndexLocked: 409,
    errors.SearchIndexError: 503,
    errors.ServerRejected: 502,
    errors.ServerError: 503,
    errors.BundleError: 503,
    errors.MissingExtraError: 503,
    NotFoundError: 404,
    GoneError: 410,
    NotAllowedError: 403,
    KeyRequiredError: 401,
    WrongHostError: 421,
    TooLargeError: 413,
    TooSlowError: 503,
    ConflictError: 409,
    VireoError: 500,
}
"""The status of each error type; a type that is not here has that of its nearest base."""


def status_of(error: VireoError) -> int:
    """Return the HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    status: int, error: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """Make the answer for an error."""
    phrase = HTTPStatus(status).phrase
    content = {"type": "about:blank", "title": phrase, "status": status, "detail": detail}
    content |= {"error": error} | more
    # What callers send may come back in it, the halves of surrogate pairs too.
    return Response(json_line(content), status, dict(headers or {}), media_type=MEDIA_TYPE)


def problem_of(error: VireoError) -> Response:
    """Make the answer for an error of the project; its message says what to do after `;`."""
    status = status_of(error)
    headers = {}
    if status in (409, 503):
        headers["Retry-After"] = str(RETRY_SECONDS)
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="vireo"'
    detail, _, hint = str(error).partition("; ")
    more = {"hint": hint} if hint else {}
    return problem(status, type(error).__name__, detail, headers=headers, **more)


class _Log:
    """Logs what is wrong once, and not for each of the many whom it meets."""

    def __init__(self) -> None:
        self._message = ""
        self._told = 0.0

    def tell(self, where: str, message: str) -> None:
        """Log a message, unless it is the last one and was logged a short time ago."""
        now = time.monotonic()
        if message != self._message or now - self._told > _QUIET_SECONDS:
            logger.warning("%s: %s", where, message)
            self._message, self._told = message, now


def install(app: FastAPI) -> None:
    """Let an application answer every error as problem details, and its document say so."""
    document = app.openapi

    def with_problems() -> dict[str, Any]:
        made = document()
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        return made

    app.openapi = with_problems  # type: ignore[method-assign]

    log = _Log()

    @app.exception_handler(VireoError)
    async def ours(request: Request, error: VireoError) -> Response:
        answer = problem_of(error)
        if answer.status_code >= 500:
            log.tell(f"{request.method} {request.url.path}", str(error))
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        found = [
            {"where": ".".join(str(part) for part in one["loc"]), "what": one["msg"]}
            for one in error.errors()
        ]
        detail = "; ".join(f"{one['where']}: {one['what']}" for one in found[:5])
        return problem(422, "RequestError", detail, errors=found[:50])

    @app.exception_handler(HTTPException)
    async def framework(_: Request, error: HTTPException) -> Response:
        # FastAPI says "400" of whatever is raised while it reads a body: too many bytes, say.
        if isinstance(error.__cause__, VireoError):
            return problem_of(error.__cause__)
        return problem(
            error.status_code, "HttpError", str(error.detail), headers=error.headers or {}
        )

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, "Fault", "a fault of this server; its log has the cause")
