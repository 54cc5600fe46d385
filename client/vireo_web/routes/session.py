"""`/v1/session`: a key as a cookie, for what a browser asks without headers of ours."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ..guards import KEY_COOKIE, shown_key
from ..state import StateOf

router = APIRouter(prefix="/v1", tags=["info"])

_SECONDS = 30 * 24 * 3600


@router.post("/session", status_code=204)
async def begin(state: StateOf, request: Request) -> Response:
    """Keep the key of this request as a cookie, so that images and downloads need no header.

    The cookie goes to pages of this server alone, and no script reads it.
    """
    response = Response(status_code=204)
    if not state.settings.keys:
        return response
    response.set_cookie(
        KEY_COOKIE,
        shown_key(request.headers),
        max_age=_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.delete("/session", status_code=204)
async def end() -> Response:
    """Forget the key."""
    response = Response(status_code=204)
    response.delete_cookie(KEY_COOKIE, httponly=True, samesite="strict")
    return response
