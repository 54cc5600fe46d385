"""`vireo index import` and `export`: embeddings in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...printing import say
from ..options import (
    DEFAULT_INDEX,
    HalfOption,
    IndexedModelOption,
    IndexOption,
    ModelOption,
    dtype_of,
)


def import_files(
    folder: Annotated[Path, typer.Argument(help="What `vireo embed` or clip-retrieval wrote.")],
    model: ModelOption,
    out: IndexOption = DEFAULT_INDEX,
) -> None:  # fmt: skip
    """Add embeddings from files to an index, without embedding anything.

    The folder holds `img_emb/img_emb_0.npy` and `metadata/metadata_0.parquet`, as `vireo embed`,
    `vireo index export` and clip-retrieval write them. The embeddings must be those of --model: of
    its size and of unit length, which is checked.

    Example: `vireo index import embeddings --model runs/demo/model_repository --index my-photos`
    """
    from ...bundle import Bundle
    from ...captions import log_skips
    from ...index.writer import IndexWriter
    from ...indexing.exchange import check_importable, import_embeddings

    bundle = Bundle(model)
    check_importable(bundle, folder)  # first: a writer makes an index where there is none
    with IndexWriter(out, bundle) as writer:
        report = import_embeddings(writer, bundle, folder)
        total = len(writer)
    log_skips(report.skipped)
    say(
        f"{report.added} images imported ({report.captions} captions), {len(report.skipped)} "
        f"skipped; {out} now holds {total} images"
    )


def export_files(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    index: IndexOption = DEFAULT_INDEX,
    model: IndexedModelOption = None,
    partition_rows: Annotated[int, typer.Option("--partition-rows", min=1, help="Rows in one file.")] = 100_000,
    half: HalfOption = False,
) -> None:  # fmt: skip
    """Write the embeddings of an index to npy files, with their paths and captions.

    The captions are in FOLDER/captions, in the same layout. `vireo index import` reads it all.

    Example: `vireo index export embeddings --index my-photos`
    """
    from ...index.bundle_files import open_bundle
    from ...indexing.exchange import export_embeddings

    bundle = open_bundle(index, model, engines=False)
    images, captions = export_embeddings(
        index, bundle, folder, partition_rows=partition_rows, dtype=dtype_of(half)
    )
    say(f"{images} images and {captions} captions written to {folder}")
