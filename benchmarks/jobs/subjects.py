"""The models whose serving is measured: the demo's, and towers of real size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from vireo_client.bundle import Bundle
from vireo_client.text.pipeline import TextPath

from ..contenders.ours import Rows
from ..models import build
from ..models.sizes import SERVED, pair
from ..report.document import Report
from .run import Run, demo_of

TEXTS = 400
"""Queries that are asked in turn."""


@dataclass(frozen=True)
class Subject:
    """One model: what Triton serves, and what PyTorch loads."""

    name: str
    repository: Path
    bundle: Path
    rows: int
    """The size of the corpus that is searched."""
    texts: tuple[str, ...]
    """Queries of all lengths."""

    def corpus(self, work: Path) -> build.Corpus:
        """Return the corpus that is searched."""
        return build.corpus(Bundle(self.repository), self.rows, work)

    def ids(self, bucket: int | None = None) -> Rows:
        """Return ids of the queries of one bucket; by default of the most frequent one."""
        batches = TextPath.from_bundle(Bundle(self.repository)).encode(list(self.texts))
        by_length: dict[int, list[np.ndarray]] = {}
        for _, ids in batches:
            by_length.setdefault(ids.shape[1], []).extend(ids)
        length = bucket or max(by_length, key=lambda key: len(by_length[key]))
        return tuple(tuple(int(i) for i in row) for row in by_length.get(length, ()))


def subjects(run: Run, report: Report) -> Iterator[Subject]:
    """Yield the demo's model, where there is one, and PhoBERT-base in INT8."""
    if demo := demo_of(run, report):
        from vireo_client.captions import read_captions

        records = read_captions(demo / "scenes" / "test").records
        texts = [caption for record in records for caption in record.captions][:TEXTS]
        yield Subject(
            "demo",
            demo / "model_repository",
            demo / "bundle",
            min(10_000, run.effort.rows),
            tuple(texts),
        )
    yield served(run)


def served(run: Run) -> Subject:
    """Return the towers of real size, in INT8."""
    built = build.build(pair(SERVED), run.work)
    texts = run.captions().drawn(TEXTS)
    return Subject(
        f"{SERVED} {build.INT8}",
        built.repository(build.INT8),
        built.bundle,
        run.effort.rows,
        tuple(texts),
    )
