"""`vireo search`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import (
    DEFAULT_INDEX,
    IndexedModelOption,
    IndexOption,
    JsonOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TritonOption,
)


def search(
    text: Annotated[str | None, typer.Argument(help="A Vietnamese query.")] = None,
    image: Annotated[Path | None, typer.Option(help="Search by this image instead.")] = None,
    captions: Annotated[bool, typer.Option("--captions", "--sentences", help="With --image: find captions, not images.")] = False,
    index: IndexOption = DEFAULT_INDEX,
    k: Annotated[int, typer.Option("-k", min=1, help="The number of hits.")] = 10,
    model: IndexedModelOption = None,
    triton: TritonOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    sheet: Annotated[Path | None, typer.Option(help="Also draw the hits into this image file.")] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Find the images that a Vietnamese query describes; print rank, score and path.

    Example: `vireo search "hai con chó trên bãi cỏ" --index my-photos --sheet hits.png`

    By image: `vireo search --image photo.jpg --index my-photos`; with `--captions` it finds the
    indexed captions that describe the image.
    """
    from ..search import SearchClient
    from ..towers.tls import tls_from

    if (text is None) == (image is None):
        raise typer.BadParameter("give a query, or --image FILE, and not both")
    if captions and image is None:
        raise typer.BadParameter("--captions needs --image FILE")
    if sheet is not None:
        from PIL import Image

        if sheet.suffix.lower() not in Image.registered_extensions():
            raise typer.BadParameter(f"--sheet {sheet}: name it .png or .jpg")
    tls = tls_from(tls_ca, tls_cert, tls_key)
    with SearchClient(index, model=model, triton=triton, tls=tls) as client:
        if text is not None:
            matches = client.search(text, k)
        elif captions:
            matches = client.describe(image, k)  # type: ignore[arg-type]  # checked above
        else:
            matches = client.search_by_image(image, k)  # type: ignore[arg-type]
    query = text if text is not None else str(image)
    if as_json:
        hits = [match._asdict() for match in matches]
        typer.echo(json.dumps({"query": query, "matches": hits}, ensure_ascii=False))
    else:
        for match in matches:
            hit = f"{match.caption}  ({match.path})" if match.caption else match.path
            typer.echo(f"{match.rank:>3}  {match.score:6.3f}  {hit}")
    if sheet is not None:
        from ..sheet import contact_sheet

        contact_sheet([(query, matches)]).save(sheet)
        typer.echo(f"contact sheet: {sheet}", err=True)
