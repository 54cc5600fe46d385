"""Image-to-image evaluation: queries, references, and which reference each query shows.

The layout is that of DISC21 (Douze et al., 2021, "The 2021 Image Similarity Dataset and
Challenge"): a folder of queries, a folder of references, and a table of `query_id,reference_id`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from vireo_client.captions import CaptionedImage, log_skips
from vireo_client.embedder import Embedder
from vireo_client.errors import DataError
from vireo_client.folders import find_images

from .evaluate import embed_images
from .metrics import CUTOFFS, chance, summarise
from .ranking import rank_right_answers

POOLED = 10
"""References of each query whose scores `micro_average_precision` pools."""


def read_matches(path: Path) -> list[tuple[str, str]]:
    """Read a table of query and reference ids, an id being a file's name with or without suffix.

    A header may come first. Rows without a reference, DISC21's distractors, are left out.

    Raises:
        DataError: no such file, or a row has other than two fields.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    pairs = []
    for number, row in rows:
        if len(row) != 2:
            raise DataError(f"{path}:{number}: {len(row)} field(s); give query_id,reference_id")
        query, reference = (cell.strip() for cell in row)
        if reference and (query, reference) != ("query_id", "reference_id"):
            pairs.append((query, reference))
    if not pairs:
        raise DataError(f"{path}: names no query with a reference")
    return list(dict.fromkeys(pairs))


def evaluate_images(
    embedder: Embedder,
    queries: Path,
    references: Path,
    matches: Path,
    cutoffs: Sequence[int] = CUTOFFS,
) -> dict[str, Any]:
    """Measure how well queries find the references that they show.

    Args:
        embedder: the model.
        queries, references: folders of images.
        matches: the table of `read_matches`.
        cutoffs: each k of recall@k and mAP@k.

    Returns:
        "image_to_image" and "chance_image_to_image", as `retrieval_metrics` has them, over the
        queries with a match; "micro_average_precision", DISC21's own metric: the average precision
        of all pairs of a query and one of its `POOLED` nearest references, in the order of their
        cosine, distractors included; matches that are not among them count as missed.

    Raises:
        DataError: a folder holds no images, or `matches` names an image that is not there.
    """
    pairs = read_matches(matches)  # an error then comes before hours of embedding
    found, vectors, skipped = [], [], []
    for folder, label in ((queries, "embed queries"), (references, "embed references")):
        images = [CaptionedImage(path, ()) for path in find_images(folder)]
        if not images:
            raise DataError(f"{folder}: holds no images")
        records, embeddings, skips = embed_images(embedder, images, label)
        found.append(_by_id([record.path for record in records]))
        vectors.append(embeddings)
        skipped += skips
    log_skips(skipped)
    rows = []
    for pair in pairs:
        for side, name, folder in zip(found, pair, (queries, references), strict=True):
            if name not in side:
                raise DataError(f"{matches}: names {name}, which is no readable image of {folder}")
        rows.append((found[0][pair[0]], found[1][pair[1]]))
    query, reference = np.array(sorted(rows), dtype=np.int64).T
    asked, query_of = np.unique(query, return_inverse=True)
    ranks = rank_right_answers(vectors[0][asked], vectors[1], query_of, reference)
    candidates = len(vectors[1])
    return {
        "image_to_image": summarise(ranks, candidates, cutoffs).as_dict(),
        "chance_image_to_image": chance(ranks.counts, candidates, cutoffs).as_dict(),
        "micro_average_precision": _micro_average_precision(vectors[0], vectors[1], set(rows)),
        "towers": embedder.towers.name,
        "queries": len(vectors[0]),
        "distractors": len(vectors[0]) - len(asked),
        "references": candidates,
        "skipped": [str(skip) for skip in skipped],
    }


def _by_id(paths: Sequence[Path]) -> dict[str, int]:
    """Return the row of each image by its name, and by its name without suffix."""
    rows = {path.stem: row for row, path in enumerate(paths)}
    return rows | {path.name: row for row, path in enumerate(paths)}


def _micro_average_precision(
    queries: npt.NDArray[np.float32],
    references: npt.NDArray[np.float32],
    matches: set[tuple[int, int]],
) -> float:
    scores, right = list[float](), list[bool]()
    for row, query in enumerate(queries):
        cosines = references @ query
        nearest = np.argsort(-cosines, kind="stable")[:POOLED]
        scores += cosines[nearest].tolist()
        right += [(row, int(near)) in matches for near in nearest]
    # Wrong pairs first at ties, as everywhere.
    is_right = np.array(right)
    ordered = is_right[np.lexsort((is_right, -np.array(scores)))]
    precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float(precision[ordered].sum()) / len(matches)
