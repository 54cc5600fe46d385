"""`vireo index info`, `verify`, `compact`, `remove` and `snapshot`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ...errors import SearchIndexError
from ...printing import json_line, say
from ...progress import step_bars
from ..options import DEFAULT_INDEX, IndexedModelOption, IndexOption, JsonOption, TargetRecallOption


def remove(
    paths: Annotated[list[Path], typer.Argument(help="Paths of images, as a search shows them.")],
    index: IndexOption = DEFAULT_INDEX,
    model: IndexedModelOption = None,
) -> None:
    """Remove images and their captions from an index; their files stay.

    The next `vireo index` of their folder adds them again, if their files are still there.

    Example: `vireo index remove ~/Pictures/blurred.jpg --index my-photos`
    """
    from ...editing import remove_images
    from ...index.bundle_files import open_bundle

    bundle = open_bundle(index, model, engines=False)
    count = remove_images(index, bundle, paths)
    say(f"{count} images removed from {index}")


def info(index: IndexOption = DEFAULT_INDEX, as_json: JsonOption = False) -> None:
    """Show what an index holds: images, captions, the search structure and its recall, sizes.

    `recall@10` is the share of the exact 10 best images that a search finds, measured on the
    index's own embeddings when the structure was built; `flat` is exact.

    Example: `vireo index info --index my-photos`
    """
    from ...index.maintenance import info as read_info

    found = read_info(index)
    if as_json:
        answer = asdict(found) | {
            "folder": str(found.folder),
            "bytes": found.bytes,
            "bytes_per_vector": found.bytes_per_vector,
        }
        say(json_line(answer))
        return
    rows: list[tuple[str, object]] = [
        ("images", f"{found.images:,}"),
        ("captions", f"{found.captions:,}"),
    ]
    for part, kind in found.kinds.items():
        recall = f", recall@10 {found.recall[part]:.4f}" if part in found.recall else ""
        rows.append((f"kind of {part}", f"{kind}{recall}"))
    rows += [
        ("size", f"{found.bytes / 1e6:,.1f} MB, {found.bytes_per_vector:,.0f} bytes an embedding"),
        ("segments", len(found.segments)),
        ("removed, not compacted", f"{found.removed:,}"),
        ("generation", f"{found.generation} (schema {found.schema})"),
        ("bundle", found.bundle_id),
    ]
    for name, value in rows:
        say(f"{name:24}{value}")


def verify(
    index: IndexOption = DEFAULT_INDEX,
    repair: Annotated[bool, typer.Option("--repair", help="Drop what is damaged, so that the rest is a whole index again.")] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Check everything that an index consists of; exit code 1 if something is wrong.

    All checksums, rows and embeddings are read. --repair names the images that it had to drop:
    `vireo index` on their folder brings them back.

    Example: `vireo index verify --index my-photos --repair`
    """
    from ...index.maintenance import verify as check

    result = check(index, repair=repair)
    if as_json:
        answer = {
            "whole": result.is_whole,
            "problems": [problem._asdict() for problem in result.problems],
            "repaired": result.repaired,
            "lost": result.lost,
        }
        say(json_line(answer))
    else:
        for problem in result.problems:
            say(f"{problem.where}: {problem.what}")
        for path in result.lost:
            say(f"dropped, to be indexed again: {path}")
        if not result.problems:
            say(f"{index}: whole")
        elif result.repaired:
            say(f"{index}: repaired; {len(result.lost)} images were dropped")
    if not result.is_whole:
        raise SearchIndexError(
            f"{index}: {len(result.problems)} problems; --repair drops what is damaged and keeps "
            "the rest"
        )


def compact(
    index: IndexOption = DEFAULT_INDEX,
    model: IndexedModelOption = None,
    kind: Annotated[str, typer.Option("--kind", help="The search structure: auto, flat, hnsw, ivf, ivfpq, sq8, fp16 or rabitq.")] = "auto",
    target_recall: TargetRecallOption = 0.99,
) -> None:  # fmt: skip
    """Merge an index into one file a part, free what was removed, and build a search structure.

    `auto` chooses by the number of embeddings and the memory there is. Searches go on meanwhile.

    Example: `vireo index compact --index my-photos --kind hnsw --target-recall 0.95`
    """
    from ...index.bundle_files import open_bundle
    from ...index.maintenance import info as read_info
    from ...index.writer import IndexWriter

    read_info(index)  # a writer would make an index where there is none
    bundle = open_bundle(index, model, engines=False)
    with IndexWriter(index, bundle) as writer, step_bars() as progress:
        writer.compact(kind, target_recall, progress)
    found = read_info(index)
    kinds = ", ".join(
        f"{part}: {kind}"
        + (f" (recall@10 {found.recall[part]:.4f})" if part in found.recall else "")
        for part, kind in found.kinds.items()
    )
    say(f"{index}: compacted to {found.bytes / 1e6:,.1f} MB; {kinds}")


def snapshot(
    target: Annotated[Path, typer.Argument(help="A new folder.")],
    index: IndexOption = DEFAULT_INDEX,
) -> None:
    """Copy an index as it is at this moment; a writer may be at work meanwhile.

    Example: `vireo index snapshot backup/my-photos --index my-photos`
    """
    from ...index.maintenance import snapshot as copy

    state = copy(index, target)
    say(f"{target}: {state.images} images and {state.captions} captions copied")
