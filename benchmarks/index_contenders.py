"""Search structures that `index.py` compares: ours by kind, hnswlib, usearch, scikit-learn.

Each is built once and kept in a folder with a JSON file of how long it took; all are searched the
same way, one query at a time, and those with a knob are tuned by bisection to one recall.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import vireo_client.index.kinds as kinds
from vireo_client.index.kinds.tuning import least

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Search = Callable[[Floats], Rows]
"""From queries FP32 `[M, D]` to their ten rows INT64 `[M, 10]`, best first."""

PEERS = ("hnswlib", "usearch")
LINKS = 32
"""Links of a vector in hnswlib's and usearch's graphs: twice the default of both, which reaches the
recall with fewer candidates."""
CONSTRUCTION = {"small": 200, "large": 100}
"""Candidates while building: hnswlib's README has 200; less for a million vectors, which
would take too long to build."""
LARGE = 1_000_000


def build(name: str, vectors: Floats, folder: Path) -> dict[str, Any]:
    """Build a structure unless it is there; return what is known of it, `seconds` among it."""
    rows = len(vectors)
    path, facts = folder / f"{rows}-{name}.index", folder / f"{rows}-{name}.json"
    if facts.is_file():
        saved: dict[str, Any] = json.loads(facts.read_text())
        return saved
    if name in kinds.KINDS:
        known = kinds.build(name, vectors, path)
    else:
        started = time.perf_counter()
        _PEER_BUILDS[name](vectors, path)
        known = {"kind": name, "seconds": round(time.perf_counter() - started, 1)}
    known["file_bytes"] = path.stat().st_size if path.is_file() else 0
    facts.write_text(json.dumps(known))
    return known


def open_ours(
    name: str, vectors: Floats, folder: Path, known: dict[str, Any]
) -> tuple[Search, dict[str, Any]]:
    """Open a kind with the parameters that its build chose."""
    structure = kinds.open_structure(name, folder / f"{len(vectors)}-{name}.index", vectors, known)
    chosen = {key: known[key] for key in ("nprobe", "ef", "factor") if key in known}
    return lambda queries: structure.search(queries, 10)[1], chosen


def open_peer(
    name: str, vectors: Floats, folder: Path, queries: Floats, truth: Rows, target: float
) -> tuple[Search, dict[str, Any]]:
    """Open hnswlib or usearch with the least expansion that reaches `target` on these queries.

    They are tuned on the queries that are measured, which ours never see: no recall too much that
    would cost them time.
    """
    search, set_value = _PEER_OPENS[name](len(vectors), vectors.shape[1], folder)

    def reaches(value: int) -> bool:
        set_value(value)
        found = search(queries)
        return float((found[:, :, None] == truth[:, None, :]).any(axis=2).mean()) >= target

    value = least(reaches, 16, 4096)
    set_value(value)
    return search, {"ef": value}


def _build_hnswlib(vectors: Floats, path: Path) -> None:
    import hnswlib

    index = hnswlib.Index("ip", vectors.shape[1])
    links, construction = _effort(len(vectors))
    index.init_index(len(vectors), M=links, ef_construction=construction, random_seed=0)
    for start in range(0, len(vectors), 20_000):
        index.add_items(np.array(vectors[start : start + 20_000]))
    index.save_index(str(path))


def _build_usearch(vectors: Floats, path: Path) -> None:
    from usearch.index import Index

    links, construction = _effort(len(vectors))
    index = Index(
        ndim=vectors.shape[1],
        metric="ip",
        dtype="f16",
        connectivity=links,
        expansion_add=construction,
    )
    for start in range(0, len(vectors), 20_000):
        block = np.array(vectors[start : start + 20_000])
        index.add(np.arange(start, start + len(block)), block)
    index.save(str(path))


def _effort(rows: int) -> tuple[int, int]:
    return LINKS, CONSTRUCTION["large" if rows >= LARGE else "small"]


def _open_hnswlib(rows: int, dim: int, folder: Path) -> Any:
    import hnswlib

    index = hnswlib.Index("ip", dim)
    index.load_index(str(folder / f"{rows}-hnswlib.index"), max_elements=rows)

    def search(queries: Floats) -> Rows:
        # One thread for one query, as ours.
        labels = index.knn_query(queries, 10, num_threads=1 if len(queries) == 1 else -1)[0]
        return labels.astype(np.int64)

    return search, index.set_ef


def _open_usearch(rows: int, dim: int, folder: Path) -> Any:
    from usearch.index import Index

    index = Index.restore(str(folder / f"{rows}-usearch.index"))

    def search(queries: Floats) -> Rows:
        keys = index.search(queries, 10, threads=1 if len(queries) == 1 else 0).keys
        return np.asarray(keys).reshape(len(queries), -1).astype(np.int64)

    def set_value(value: int) -> None:
        index.expansion_search = value

    return search, set_value


_PEER_BUILDS = {"hnswlib": _build_hnswlib, "usearch": _build_usearch}
_PEER_OPENS = {"hnswlib": _open_hnswlib, "usearch": _open_usearch}


def scikit_learn(vectors: Floats) -> Search:
    """Search as a notebook does: all cosines, then a sort."""
    from sklearn.metrics.pairwise import cosine_similarity

    return lambda queries: np.argsort(-cosine_similarity(queries, vectors), axis=1)[:, :10]
