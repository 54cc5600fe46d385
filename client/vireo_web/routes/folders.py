"""`/v1/folders`: the folders that may be indexed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from ..choosing import check_allowed, list_folders, list_roots
from ..schemas import FoldersAnswer
from ..state import State, StateOf

router = APIRouter(prefix="/v1", tags=["index"])


@router.get("/folders")
async def folders(
    state: StateOf,
    path: Annotated[str, Query(max_length=4096, description="Empty for the roots.")] = "",
) -> FoldersAnswer:
    """List the folders within an allowed one."""
    if not path:
        return list_roots(state.roots)
    return await state.on_files(_list, state, path)


def _list(state: State, path: str) -> FoldersAnswer:
    return list_folders(check_allowed(path, state.roots), state.roots)
