"""`vireo index`"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .options import (
    DEFAULT_INDEX,
    IndexOption,
    JsonOption,
    ModelOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TritonOption,
)


def index(
    source: Annotated[Path, typer.Argument(help="A folder of images, or a data set with captions.jsonl.")],
    model: ModelOption,
    out: IndexOption = DEFAULT_INDEX,
    triton: TritonOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
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
