"""`/v1/info`: what this server serves."""

from __future__ import annotations

from fastapi import APIRouter

from ..schemas import InfoAnswer
from ..state import StateOf

router = APIRouter(prefix="/v1", tags=["info"])


@router.get("/info", response_model_by_alias=True)
async def info(state: StateOf) -> InfoAnswer:
    """Tell what this server serves, and whether it can."""
    return await state.overview.answer()
