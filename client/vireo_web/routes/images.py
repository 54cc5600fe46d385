"""`/v1/images`: the files of the index, their thumbnails, and a zip of several."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from vireo_client.errors import DataError
from vireo_client.index.rows import ImageRow

from ..downloads import plan_zip, stream_zip
from ..files import look_at
from ..problems import GoneError
from ..schemas import DownloadRequest, ImageAnswer
from ..searching import addresses, no_image, size_of
from ..state import State, StateOf
from ..thumbnails import MEDIA_TYPE

router = APIRouter(prefix="/v1", tags=["images"])

ImageId = Annotated[int, Path(alias="id", ge=0, lt=2**63, description="As matches tell it.")]


@router.get("/images/{id}", response_class=FileResponse)
async def image(state: StateOf, image_id: ImageId) -> Response:
    """Return the file of an indexed image, as it is on the disk."""
    file = await state.on_files(look_at, await _row(state, image_id))
    if file.data is not None:  # from an archive
        headers = {"Cache-Control": "private, no-cache"}
        return Response(file.data, media_type=file.type, headers=headers)
    return FileResponse(
        file.path,
        media_type=file.type,
        stat_result=file.status,
        filename=PurePath(file.path).name,
        content_disposition_type="inline" if file.type.startswith("image/") else "attachment",
        headers={"Cache-Control": "private, no-cache"},
    )


@router.get("/images/{id}/thumbnail", response_class=Response, responses={304: {}})
async def thumbnail(
    state: StateOf,
    request: Request,
    image_id: ImageId,
    size: Annotated[int, Query(ge=1, le=2048, description="The longer side, at least.")] = 256,
) -> Response:
    """Return a small JPEG of an indexed image."""
    name, data = await state.on_files(state.thumbnails.get, await _row(state, image_id), size)
    etag = f'"{name}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=60"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=MEDIA_TYPE, headers=headers)


@router.get("/images/{id}/info")
async def image_info(state: StateOf, image_id: ImageId) -> ImageAnswer:
    """Tell what the index knows of an image, and whether its file is still there."""
    row = await _row(state, image_id)
    rows, captions = await state.library.read(
        lambda o: (o.index.rows([image_id]), o.index.captions_of([image_id]))
    )
    fields = dict(rows[image_id].fields) if image_id in rows else {}
    try:
        changed, present = (await state.on_files(look_at, row)).changed, True
    except GoneError:
        changed, present = True, False
    return ImageAnswer(
        id=image_id,
        path=row.path,
        name=PurePath(row.path).name,
        captions=captions.get(image_id, []),
        metadata=fields,
        width=size_of(fields, "width"),
        height=size_of(fields, "height"),
        bytes=row.stamp.bytes,
        sha256=row.sha256,
        present=present,
        changed=changed,
        **addresses(image_id),
    )


@router.post("/download", response_class=StreamingResponse)
async def download(state: StateOf, request: DownloadRequest) -> Response:
    """Return a zip of indexed images; files that are gone are named in it."""
    ids = list(dict.fromkeys(request.ids))
    if len(ids) > state.limits.download_files:
        raise DataError(
            f"{len(ids)} images; at most {state.limits.download_files} are downloaded together"
        )
    rows = await state.library.read(lambda o: o.index.files(ids))
    if not rows:
        raise no_image(ids[0])
    plan = await state.on_files(
        plan_zip, [rows[i] for i in ids if i in rows], state.limits.download_bytes
    )
    return StreamingResponse(
        stream_zip(plan),
        media_type="application/zip",
        headers={"Content-Disposition": 'attachment; filename="vireo.zip"'},
    )


async def _row(state: State, image_id: int) -> ImageRow:
    rows = await state.library.read(lambda o: o.index.files([image_id]))
    if image_id not in rows:
        raise no_image(image_id)
    return rows[image_id]
