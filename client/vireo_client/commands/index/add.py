"""`vireo index add`, which is also `vireo index`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from ...errors import DataError
from ...indexing.report import IndexReport, check_report_file, write_report
from ...printing import json_line, printable, say
from ...progress import step_bars
from ..options import (
    DEFAULT_INDEX,
    AllowOutsideOption,
    ConnectTimeoutOption,
    HeaderOption,
    IndexOption,
    JsonOption,
    ModelOption,
    NulOption,
    RequestTimeoutOption,
    RetriesOption,
    SharedMemoryOption,
    TargetRecallOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TritonOption,
    WorkersOption,
    connection_from,
)

logger = logging.getLogger(__name__)


def add(
    source: Annotated[Path, typer.Argument(help="A folder of images; a list in .jsonl, .csv or .parquet; a .tar; or - for paths on standard input.")],
    model: ModelOption,
    out: IndexOption = DEFAULT_INDEX,
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
    keep_missing: Annotated[bool, typer.Option("--keep-missing", help="Keep images whose files are gone.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Also remove the images of a folder that is empty or missing.")] = False,
    allow_outside: AllowOutsideOption = False,
    nul: NulOption = False,
    kind: Annotated[str | None, typer.Option("--kind", help="Then build a search structure of this kind: auto, flat, hnsw, ivf, ...")] = None,
    target_recall: TargetRecallOption = 0.99,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="Then report images with the same bytes, and images that look alike.")] = False,
    duplicate_cosine: Annotated[float, typer.Option("--duplicate-cosine", min=0.0, max=1.0, help="The cosine from which on two images look alike.")] = 0.97,
    report_file: Annotated[Path | None, typer.Option("--report", help="Write what was skipped, moved and removed, with paths and reasons, to this .json or .csv file.")] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Bring an index to what a source holds: its images, and their captions where there are any.

    Images that have not changed are passed over, and renamed or touched ones keep their embeddings,
    so that the command can be repeated. Images of the source whose files are gone leave the index;
    those of other sources stay. Ctrl-C saves the images that are done; a process that was killed
    goes on where it stopped.

    A list has a column of images (`image`, `file_name`, `path`), columns of captions (`caption`,
    `captions`) where there are any, and other columns, which become metadata to filter by.

    Examples:

    - `vireo index ~/Pictures --model runs/demo/model_repository --index my-photos`

    - `vireo index products.csv --model MODEL --report skipped.csv`

    - `find . -newer stamp -print0 | vireo index - -0 --model MODEL`
    """
    from ...bundle import Bundle
    from ...captions import log_skips
    from ...index.writer import IndexWriter
    from ...indexing.pipeline import index_images
    from ...indexing.sources import STANDARD_INPUT, list_images, list_paths
    from ...search import open_embedder
    from ...towers.tls import tls_from

    if report_file is not None:
        check_report_file(report_file)
    bundle = Bundle(model)
    piped = str(source) == STANDARD_INPUT
    if piped:
        records, skipped = list_paths(separator=b"\0" if nul else b"\n")
    else:
        records, skipped = list_images(source, allow_empty=yes, allow_outside=allow_outside)
    tls = tls_from(tls_ca, tls_cert, tls_key)
    connection = connection_from(request_timeout, connect_timeout, retries, header, shared_memory)
    with (
        open_embedder(bundle, triton, tls=tls, connection=connection, bulk=True) as embedder,
        IndexWriter(out, bundle) as writer,
    ):
        report = index_images(
            writer,
            embedder,
            records,
            source=None if piped else source,
            keep_missing=keep_missing,
            allow_empty=yes,
            workers=workers,
        )
        if not report.interrupted:
            with step_bars() as progress:
                if kind is not None:
                    writer.compact(kind, target_recall, progress)
                else:
                    writer.compact_if_due(progress)
        total = len(writer)
    report.skipped = skipped + report.skipped
    if duplicates and not report.interrupted:
        from ...indexing.duplicates import find_duplicates, find_near_duplicates

        report.duplicates = find_duplicates(out)
        report.near_duplicates = find_near_duplicates(out, bundle, duplicate_cosine)
    if report_file is not None:
        write_report(report, report_file)
    if as_json:
        answer = report.as_dict() | {"skipped": [str(skip) for skip in report.skipped]}
        say(json_line(answer | {"total": total}))
    else:
        log_skips(report.skipped)
        _tell(report, out, total)
    if report.interrupted:
        raise KeyboardInterrupt
    if report.kept:
        folders = "; ".join(f"{folder} ({count})" for folder, count in report.kept.items())
        raise DataError(
            f"empty or missing, and the index holds images of it, which were kept: {folders}. "
            "If its disk is mounted, give --yes to remove them, or --keep-missing"
        )


def _tell(report: IndexReport, out: Path, total: int) -> None:
    _log_names("moved", [f"{old} to {new}" for old, new in report.moved])
    _log_names("removed", report.removed)
    _log_names("groups of the same bytes", [" = ".join(group) for group in report.duplicates])
    _log_names("groups that look alike", [" ~ ".join(group) for group in report.near_duplicates])
    speed = f", {report.added / report.seconds:.0f} a second" if report.added else ""
    say(
        f"{report.added} images added ({report.captions} captions{speed}), "
        f"{report.unchanged} unchanged, {len(report.moved)} moved, "
        f"{len(report.removed)} removed, {len(report.skipped)} skipped; "
        f"{out} now holds {total} images"
    )


def _log_names(what: str, names: list[str], limit: int = 5) -> None:
    if names:
        more = f"; and {len(names) - limit} more" if len(names) > limit else ""
        logger.warning(
            "%s %d: %s%s", what, len(names), "; ".join(map(printable, names[:limit])), more
        )
