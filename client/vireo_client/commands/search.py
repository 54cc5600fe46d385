"""`vireo search`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..printing import printable, say
from .options import (
    DEFAULT_INDEX,
    ConnectTimeoutOption,
    HeaderOption,
    IndexedModelOption,
    IndexOption,
    JsonOption,
    RequestTimeoutOption,
    RetriesOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TritonOption,
    connection_from,
)


def search(
    text: Annotated[str | None, typer.Argument(help="A Vietnamese query.")] = None,
    image: Annotated[Path | None, typer.Option(help="Search by this image, or by text and image together.")] = None,
    weights: Annotated[str | None, typer.Option(metavar="TEXT,IMAGE", help="How much a text and an image count that are given together; by default alike.")] = None,
    queries: Annotated[Path | None, typer.Option(help="Answer the queries of this file, one a line (- is standard input), as JSON lines.")] = None,
    captions: Annotated[bool, typer.Option("--captions", "--sentences", help="Find captions, not images.")] = False,
    filter_: Annotated[str | None, typer.Option("--filter", metavar="EXPRESSION", help="Search only images of which this holds, such as 'folder ^= \"2024/\" and width > 1000'.")] = None,
    hybrid: Annotated[bool, typer.Option("--hybrid", help="Rank by the words of captions, file names and columns too.")] = False,
    min_relevance: Annotated[float | None, typer.Option(min=0, max=1, help="Leave out hits of less relevance; begin with 0.9.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every image, whatever the kind of the index.")] = False,
    index: IndexOption = DEFAULT_INDEX,
    k: Annotated[int, typer.Option("-k", min=1, help="The number of hits.")] = 10,
    model: IndexedModelOption = None,
    triton: TritonOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    request_timeout: RequestTimeoutOption = None,
    connect_timeout: ConnectTimeoutOption = None,
    retries: RetriesOption = None,
    header: HeaderOption = None,
    sheet: Annotated[Path | None, typer.Option(help="Also draw the hits into this image file; with --queries, into a folder of such files.")] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Find the images that a Vietnamese query describes; print rank, score, relevance and path.

    Example: `vireo search "hai con chó trên bãi cỏ" --index my-photos --sheet hits.png`

    Without a query it asks for them; `:help` says what else it takes.

    By image: `vireo search --image photo.jpg --index my-photos`, and with a text besides, both
    count: `vireo search "buổi tối" --image photo.jpg --weights 0.7,0.3`. With `--captions` it finds
    indexed captions.
    """
    from ..ranking import SearchOptions
    from ..search import SearchClient
    from ..towers.tls import tls_from
    from .showing import answer_line, can_draw, draw_sheet, show

    asks = text is not None or image is not None
    if asks and queries is not None:
        raise typer.BadParameter("give a query or --queries FILE, and not both")
    if weights is not None and (text is None or image is None):
        raise typer.BadParameter("--weights needs a query and --image FILE")
    if captions and text is not None and image is not None:
        raise typer.BadParameter("--captions takes a query or --image FILE, and not both")
    if hybrid and (captions or (image is not None and text is None)):
        raise typer.BadParameter("--hybrid needs a query, and finds images")
    if sheet is not None and queries is None:
        if not asks:
            raise typer.BadParameter("--sheet needs a query; in the prompt, say :sheet FILE")
        if not can_draw(sheet):
            raise typer.BadParameter(f"--sheet {printable(sheet)}: name it .png or .jpg")
    mixed = _weights(weights)
    options: SearchOptions = {"filter": filter_, "min_relevance": min_relevance, "exact": exact}
    tls = tls_from(tls_ca, tls_cert, tls_key)
    connection = connection_from(request_timeout, connect_timeout, retries, header)
    with SearchClient(index, model=model, triton=triton, tls=tls, connection=connection) as client:
        if queries is not None:
            from .query_files import answer_file

            answer_file(client, queries, k, options, hybrid=hybrid, captions=captions, sheets=sheet)
            return
        if not asks:
            from .prompt import Prompt

            prompt = Prompt(client, k, options, hybrid=hybrid, captions=captions, as_json=as_json)
            if prompt.run(sys.stdin):
                raise typer.Exit(1)
            return
        if not captions:
            matches = client.search(text, k, image=image, weights=mixed, hybrid=hybrid, **options)
        elif image is not None:
            matches = client.describe(image, k, **options)
        else:
            matches = client.similar_captions(text or "", k, **options)
    query = text if text is not None else str(image)
    if as_json:
        more = {"image": str(image)} if text is not None and image is not None else {}
        say(answer_line(query, matches, **more))
    else:
        show(matches)
    if sheet is not None:
        draw_sheet(sheet, query, matches)
        say(f"contact sheet: {sheet}", err=True)


def _weights(text: str | None) -> tuple[float, ...]:
    """Read `0.7,0.3`; the client checks the numbers."""
    from ..queries import EVENLY

    if text is None:
        return EVENLY
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--weights {text!r}: give two numbers, such as 0.7,0.3") from None
