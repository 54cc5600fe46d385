"""`vireo web`. Heavy imports stay inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from vireo_client import environment
from vireo_client.commands.options import (
    DEFAULT_INDEX,
    ConnectTimeoutOption,
    HeaderOption,
    IndexOption,
    RequestTimeoutOption,
    RetriesOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TritonOption,
    connection_from,
)


def web(
    source: Annotated[Path | None, typer.Argument(metavar="[INDEX_OR_FOLDER]", help="An index; or a folder of images, which is indexed into --index while the page is open.")] = None,
    index: IndexOption = DEFAULT_INDEX,
    model: Annotated[Path | None, typer.Option("--model", envvar=environment.MODEL, help="The model repository; by default the one that the index was made with, else one at hand: model_repository or runs/*/model_repository.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; another than this machine's own needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8080,
    triton: TritonOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    request_timeout: RequestTimeoutOption = None,
    connect_timeout: ConnectTimeoutOption = None,
    retries: RetriesOption = None,
    header: HeaderOption = None,
    root: Annotated[list[Path] | None, typer.Option("--root", metavar="FOLDER", help="A folder below which folders may be chosen to be indexed; repeat it for several. By default your home folder where only this machine is served, else none.")] = None,
    key: Annotated[list[str] | None, typer.Option("--key", metavar="KEY", envvar=environment.WEB_KEY, help="A key that callers must show; others on this machine may read it in the list of processes, so that --key-file is better.")] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", help="A file of such keys, one a line.")] = None,
    cors: Annotated[list[str] | None, typer.Option("--cors", metavar="ORIGIN", help="Another site whose pages may call the API, such as https://photos.example; repeat it for several.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option("--allow-host", metavar="NAME", help="A name under which this server is called, as behind a proxy; repeat it for several.")] = None,
    cache_mib: Annotated[int, typer.Option("--cache-size", min=0, metavar="MIB", help="What thumbnails may take on the disk.")] = 1024,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:  # fmt: skip
    """Open a page to search an index in the browser, and an HTTP API beside it, until Ctrl-C.

    Examples:

    - `vireo web my-photos` opens an index.

    - `vireo web ~/Pictures --model runs/demo/model_repository` indexes a folder and opens it.

    - `vireo web my-photos --host 0.0.0.0 --key-file keys` serves others too, who need a key.

    - `curl 'http://127.0.0.1:8080/v1/search?q=chó&k=3'` asks the API; `/openapi.json` describes it.
    """
    from vireo_client.towers.tls import tls_from

    from .launch import find_source, read_keys
    from .running import serve
    from .settings import Settings

    index, folder, model = find_source(source, index, model, needs_model=triton is None)
    keys = read_keys(key or [], key_file)
    settings = Settings(
        index=index,
        model=model,
        triton=triton,
        tls=tls_from(tls_ca, tls_cert, tls_key),
        connection=connection_from(request_timeout, connect_timeout, retries, header),
        keys=keys,
        origins=tuple(cors or ()),
        hosts=tuple(allow_host or ()),
        cache_bytes=cache_mib << 20,
    )
    serve(settings, host, port, roots=root, folder=folder, open_page=open_)
