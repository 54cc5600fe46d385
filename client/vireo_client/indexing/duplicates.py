"""Finds images that an index holds twice: with the same bytes, or that look alike."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from ..bundle import Bundle
from ..index.catalogue import CATALOGUE_FILE, Catalogue
from ..index.loading import load_vectors
from ..progress import progress_bar
from .contents import blocks

_NEIGHBOURS = 16
"""Images that are looked at beside each; a larger group is found through its members."""


def find_duplicates(folder: Path) -> list[list[str]]:
    """Return the paths of images that have the same bytes, in groups.

    Raises:
        SearchIndexError: there is no index, or it is damaged.
    """
    groups: dict[str, list[str]] = {}
    with closing(Catalogue(folder / CATALOGUE_FILE)) as catalogue, catalogue.moment() as db:
        for sha256, path in db.execute(
            "SELECT sha256, path FROM images WHERE sha256 IN (SELECT sha256 FROM images "
            "WHERE sha256 <> '' GROUP BY sha256 HAVING COUNT(*) > 1) ORDER BY path"
        ):
            groups.setdefault(sha256, []).append(path)
    return list(groups.values())


def find_near_duplicates(folder: Path, bundle: Bundle, cosine: float) -> list[list[str]]:
    """Return the paths of images that look alike, in groups.

    Two images are in one group if their embeddings' cosine reaches `cosine`, or if others link
    them. Images with the same bytes count as one. The index's own search finds them: of the kinds
    that are not exact, it may miss some.

    Args:
        folder: the index.
        bundle: the bundle that made it.
        cosine: from which cosine on two images look alike.

    Raises:
        SearchIndexError: there is no index, it is damaged, or another bundle made it.
    """
    leaders: dict[int, int] = {}
    with closing(Catalogue(folder / CATALOGUE_FILE)) as catalogue:
        catalogue.check_bundle(bundle)
        vectors = load_vectors(folder, catalogue, bundle.config.embedding_dim)
        with progress_bar(rate="images/s") as progress:
            task = progress.add_task("look for duplicates", total=vectors.state.images)
            for ids, queries in blocks(vectors):
                queries = np.ascontiguousarray(queries)
                for segment in vectors.parts["images"]:
                    scores, found = segment.search(queries, _NEIGHBOURS)
                    rows, columns = np.nonzero((scores >= cosine) & (found >= 0))
                    pairs = zip(ids[rows].tolist(), found[rows, columns].tolist(), strict=True)
                    for one, other in pairs:
                        _join(leaders, one, other)
                progress.advance(task, len(ids))
        members: dict[int, list[int]] = {}
        for id_ in leaders:
            members.setdefault(_leader(leaders, id_), []).append(id_)
        groups = []
        with catalogue.moment() as db:
            for ids_ in members.values():
                if len(ids_) > 1:
                    names = [
                        db.execute("SELECT path, sha256 FROM images WHERE id = ?", (i,)).fetchone()
                        for i in sorted(ids_)
                    ]
                    groups.append([row for row in names if row is not None])
    alike = [sorted({sha256 or path: path for path, sha256 in group}.values()) for group in groups]
    return sorted(group for group in alike if len(group) > 1)


def _leader(leaders: dict[int, int], id_: int) -> int:
    """Return the image that stands for a group (union-find, with path halving)."""
    leaders.setdefault(id_, id_)
    while leaders[id_] != id_:
        leaders[id_] = leaders[leaders[id_]]
        id_ = leaders[id_]
    return id_


def _join(leaders: dict[int, int], one: int, other: int) -> None:
    if one != other:
        leaders[_leader(leaders, other)] = _leader(leaders, one)
