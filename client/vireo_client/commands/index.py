"""`vireo index`"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def index(
    source: Annotated[Path, typer.Argument(help="A folder of pictures, or a data set with captions.jsonl.")],
    model: Annotated[Path, typer.Option(envvar="VIREO_MODEL", help="The model repository that `vireo export` wrote.")],
    out: Annotated[Path, typer.Option("--index", envvar="VIREO_INDEX", help="The index to write or to add to.")] = Path("vireo-index"),
    triton: Annotated[str | None, typer.Option(envvar="VIREO_TRITON", metavar="[grpcs://]HOST:PORT", help="Embed through this Triton; by default in this process.")] = None,
    tls_ca: Annotated[Path | None, typer.Option(envvar="VIREO_TLS_CA", help="PEM file of the authority of --triton's certificate; asks for TLS.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(envvar="VIREO_TLS_CERT", help="This client's own certificate, where --triton wants one.")] = None,
    tls_key: Annotated[Path | None, typer.Option(envvar="VIREO_TLS_KEY", help="Its private key.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:  # fmt: skip
    """Embed images (and their captions, where there are any) and add them to an index.

    Images that are in the index already and have not changed are passed over, so that the command
    can be repeated. Ctrl-C saves the images that are done.

    Example: `vireo index ~/Pictures --model runs/demo/model_repository --index my-photos`
    """
    from ..bundle import Bundle
    from ..captions import log_skips
    from ..index.indexing import index_images, list_images
    from ..index.writer import IndexWriter
    from ..search import open_embedder
    from ..towers.tls import tls_from

    records, skipped = list_images(source)
    bundle = Bundle(model)
    tls = tls_from(tls_ca, tls_cert, tls_key)
    with (
        open_embedder(bundle, triton, tls=tls, bulk=True) as embedder,
        IndexWriter(out, bundle) as writer,
    ):
        report = index_images(writer, embedder, records)
        total = len(writer)
    report.skipped = skipped + report.skipped
    if as_json:
        answer = asdict(report) | {
            "skipped": [str(skip) for skip in report.skipped],
            "total": total,
        }
        typer.echo(json.dumps(answer, ensure_ascii=False))
    else:
        log_skips(report.skipped)
        speed = f", {report.added / report.seconds:.0f} a second" if report.added else ""
        typer.echo(
            f"{report.added} images added ({report.captions} captions{speed}), "
            f"{report.unchanged} unchanged, {len(report.skipped)} skipped; "
            f"{out} now holds {total} images"
        )
    if report.interrupted:
        raise KeyboardInterrupt
