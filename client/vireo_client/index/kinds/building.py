"""Build a search structure: train on a sample, add in blocks, tune, write."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, SearchIndexError
from ..threads import threads
from .kind import Kind
from .library import faiss
from .master import Floats
from .structure import Structure, read
from .tuning import trial, tune

BLOCK_ROWS = 20_000
"""Vectors that are in memory at once beside the structure: 40 MB of size 512."""

Progress = Callable[[str, int, int], None]
"""Called with the step (`train`, `add`, `tune`), what is done and what there is to do."""


def build(
    kind: Kind,
    flat: Kind,
    vectors: Floats,
    path: Path | None,
    *,
    target_recall: float,
    queries: Floats | None,
    seed: int,
    progress: Progress | None,
) -> dict[str, Any]:
    """Build a structure; see `vireo_client.index.kinds.build`."""
    report = progress or (lambda step, done, total: None)
    started = time.perf_counter()
    rows, dim = vectors.shape
    if kind.make is None:
        return {"kind": kind.name, "recall@10": 1.0, "bytes_per_vector": 4 * dim}
    if rows < kind.least_rows:
        return {
            "kind": flat.name,
            "recall@10": 1.0,
            "bytes_per_vector": 4 * dim,
            "note": f"{kind.name} needs {kind.least_rows} vectors, there are {rows}: flat instead",
        }
    if path is None:
        raise SearchIndexError(f"a structure of kind {kind.name} needs a file to be written to")
    try:
        with threads(rows):
            index = _filled(kind, vectors, seed, report)
        faiss.write_index(index, str(path))
    except (RuntimeError, MemoryError) as error:
        path.unlink(missing_ok=True)
        reason = str(error).rpartition("Error: ")[2] or "out of memory"
        raise SearchIndexError(
            f"{path}: {kind.name} over {rows} vectors cannot be built ({reason}); "
            "free memory or disk, or choose a smaller kind"
        ) from None
    del index
    # Tuned as it will be opened: from the file.
    structure = Structure(kind, read(path), vectors, {})
    report("tune", 0, 1)
    tests = trial(structure.master, seed, queries)
    tuned = tune(structure, tests, target_recall)
    report("tune", 1, 1)
    settings = {
        "kind": kind.name,
        **tuned,
        "target_recall": target_recall,
        "queries": len(tests.queries),
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "bytes_per_vector": round(path.stat().st_size / rows, 1),
    }
    if tuned["recall@10"] < target_recall:
        settings["note"] = f"recall@10 stays below {target_recall} at the most that {kind.name} can"
    return settings


def _filled(kind: Kind, vectors: Floats, seed: int, report: Progress) -> Any:
    """Train an index on a sample, and add all vectors to it."""
    assert kind.make is not None
    rows = len(vectors)
    report("train", 0, 1)
    index = kind.make(sample(vectors, kind.sample_rows(rows), seed), rows, seed)
    report("train", 1, 1)
    for start in range(0, rows, BLOCK_ROWS):
        index.add(_checked(vectors[start : start + BLOCK_ROWS]))
        report("add", min(start + BLOCK_ROWS, rows), rows)
    return index


def sample(vectors: Floats, count: int, seed: int) -> Floats:
    """Return `count` vectors drawn by chance, or all, in their order."""
    rows = np.random.default_rng(seed).choice(len(vectors), min(count, len(vectors)), replace=False)
    # Sorted, since the file is read fastest from start to end.
    return _checked(vectors[np.sort(rows)])


def _checked(vectors: Floats) -> Floats:
    block = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(block).all():
        raise DataError("a vector holds NaN or infinity; `vireo index verify` names its row")
    return block
