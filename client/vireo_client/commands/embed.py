"""`vireo embed`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..printing import say
from .options import (
    AllowOutsideOption,
    ConnectTimeoutOption,
    HalfOption,
    HeaderOption,
    ModelOption,
    NulOption,
    RequestTimeoutOption,
    RetriesOption,
    SharedMemoryOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TritonOption,
    WorkersOption,
    connection_from,
    dtype_of,
)


def embed(
    source: Annotated[Path, typer.Argument(help="Images: a folder, a list, a .tar or - as for `vireo index`. With --texts: a file with a text a line, or a .jsonl of captions.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; one in which a run stopped goes on.")],
    model: ModelOption,
    texts: Annotated[bool, typer.Option("--texts", help="The source holds texts, not images.")] = False,
    triton: TritonOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    request_timeout: RequestTimeoutOption = None,
    connect_timeout: ConnectTimeoutOption = None,
    retries: RetriesOption = None,
    header: HeaderOption = None,
    shared_memory: SharedMemoryOption = None,
    workers: WorkersOption = None,
    partition_rows: Annotated[int, typer.Option("--partition-rows", min=1, help="Rows in one file; what a kill costs at most.")] = 10_000,
    half: HalfOption = False,
    allow_outside: AllowOutsideOption = False,
    nul: NulOption = False,
) -> None:  # fmt: skip
    """Write the embeddings of images or texts to files: for those who want vectors and no index.

    The layout is clip-retrieval's: `img_emb/img_emb_0.npy` (or `text_emb/text_emb_0.npy`) and
    `metadata/metadata_0.parquet`, whose row i is of embedding i. The captions of a list are in
    `captions/`, in the same layout. Without pyarrow, metadata is JSONL. Run the same command again
    after Ctrl-C or a crash: partitions that are complete are kept.

    Examples:

    - `vireo embed ~/Pictures --out embeddings --model runs/demo/model_repository`

    - `vireo embed queries.txt --texts --out embedded-queries --model MODEL`
    """
    from ..bundle import Bundle
    from ..captions import Skip, log_skips
    from ..indexing.embed import embed_images_to, embed_texts_to
    from ..indexing.sources import STANDARD_INPUT, list_images, list_paths
    from ..search import open_embedder
    from ..towers.tls import tls_from

    bundle = Bundle(model)
    dtype = dtype_of(half)
    skipped: list[Skip] = []
    if not texts:
        if str(source) == STANDARD_INPUT:
            records, skipped = list_paths(separator=b"\0" if nul else b"\n")
        else:
            records, skipped = list_images(source, allow_outside=allow_outside)
    tls = tls_from(tls_ca, tls_cert, tls_key)
    connection = connection_from(request_timeout, connect_timeout, retries, header, shared_memory)
    with open_embedder(bundle, triton, tls=tls, connection=connection, bulk=True) as embedder:
        if texts:
            report = embed_texts_to(
                out, embedder, source, partition_rows=partition_rows, dtype=dtype
            )
        else:
            report = embed_images_to(
                out,
                embedder,
                records,
                partition_rows=partition_rows,
                dtype=dtype,
                workers=workers,
            )
    log_skips(skipped + report.skipped)
    what = "texts" if texts else "images"
    speed = f", {report.rows / report.seconds:.0f} a second" if report.rows else ""
    captions = f"{report.captions} captions{speed}" if report.captions else speed.lstrip(", ")
    say(
        f"{report.rows} {what} embedded ({captions}) in {report.partitions} partitions, "
        f"{report.known} were there, {len(skipped) + len(report.skipped)} skipped; see {out}"
    )
