"""`vireo index`"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError
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

logger = logging.getLogger(__name__)


def index(
    source: Annotated[Path, typer.Argument(help="A folder of images, or a data set with captions.jsonl.")],
    model: ModelOption,
    out: IndexOption = DEFAULT_INDEX,
    triton: TritonOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    keep_missing: Annotated[bool, typer.Option("--keep-missing", help="Keep images whose files are gone.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Also remove the images of a folder that is empty or missing.")] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Bring an index to what a folder holds: its images, and their captions where there are any.

    Images that have not changed are passed over, and renamed ones keep their embeddings, so that
    the command can be repeated. Images whose files are gone leave the index; those of other folders
    stay. Ctrl-C saves the images that are done.

    Example: `vireo index ~/Pictures --model runs/demo/model_repository --index my-photos`
    """
    from ..bundle import Bundle
    from ..captions import log_skips
    from ..index.writer import IndexWriter
    from ..indexing.pipeline import index_images
    from ..indexing.sources import list_images
    from ..search import open_embedder
    from ..towers.tls import tls_from

    bundle = Bundle(model)
    records, skipped = list_images(source, allow_empty=yes)
    tls = tls_from(tls_ca, tls_cert, tls_key)
    with (
        open_embedder(bundle, triton, tls=tls, bulk=True) as embedder,
        IndexWriter(out, bundle) as writer,
    ):
        report = index_images(
            writer, embedder, records, source=source, keep_missing=keep_missing, allow_empty=yes
        )
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
        _log_names("moved", [f"{old} to {new}" for old, new in report.moved])
        _log_names("removed", report.removed)
        speed = f", {report.added / report.seconds:.0f} a second" if report.added else ""
        typer.echo(
            f"{report.added} images added ({report.captions} captions{speed}), "
            f"{report.unchanged} unchanged, {len(report.moved)} moved, "
            f"{len(report.removed)} removed, {len(report.skipped)} skipped; "
            f"{out} now holds {total} images"
        )
    if report.interrupted:
        raise KeyboardInterrupt
    if report.kept:
        folders = "; ".join(f"{folder} ({count})" for folder, count in report.kept.items())
        raise DataError(
            f"empty or missing, and the index holds images of it, which were kept: {folders}. "
            "If its disk is mounted, give --yes to remove them, or --keep-missing"
        )


def _log_names(what: str, names: list[str], limit: int = 5) -> None:
    if names:
        more = f"; and {len(names) - limit} more" if len(names) > limit else ""
        logger.warning("%s %d: %s%s", what, len(names), "; ".join(names[:limit]), more)
