"""What there is to know about a data set before a night is spent on it: `vireo data check`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from vireo_client.bundle import file_sha256
from vireo_client.captions import CaptionedImage, LeftOut, Skip, same_text
from vireo_client.errors import ImageError
from vireo_client.images import open_image
from vireo_client.progress import track


class Spread(NamedTuple):
    """How a count is distributed."""

    min: int
    median: float
    p95: float
    max: int


@dataclass(frozen=True)
class SplitReport:
    """What one split holds."""

    pictures: int
    """Readable ones; the figures below are of these."""
    captions: int
    captions_per_picture: Spread | None
    """None where no image can be read."""
    caption_words: Spread | None
    """Between spaces: in Vietnamese, syllables."""
    skipped: list[Skip]
    left_out: dict[str, int]
    """Left out by design: how often, by reason."""
    unreadable: list[Skip]
    duplicates: list[list[str]]
    """Groups of files with the same bytes."""


@dataclass(frozen=True)
class Overlap:
    """What two splits share."""

    splits: tuple[str, str]
    pictures: list[tuple[str, str]]
    """Files with the same bytes, one of each split."""
    captions: list[str]
    """Captions that both have, for whatever images; case, spaces and Unicode form aside."""


@dataclass(frozen=True)
class DataReport:
    """The findings, sorted by what to do about them."""

    splits: dict[str, SplitReport]
    overlaps: list[Overlap]

    @property
    def problems(self) -> list[str]:
        """What would spoil training or its evaluation."""
        found = [f"{name}: no usable image" for name, s in self.splits.items() if not s.pictures]
        for overlap in self.overlaps:
            if overlap.pictures:
                found.append(
                    f"{' and '.join(overlap.splits)} share {len(overlap.pictures)} image(s): "
                    "remove them from one side"
                )
        return found

    @property
    def warnings(self) -> list[str]:
        """What training survives, and somebody should look at."""
        found = []
        for name, split in self.splits.items():
            for items, what in (
                (split.skipped, "record(s) skipped"),
                (split.unreadable, "unreadable image(s)"),
                (split.duplicates, "image(s) with copies under other names"),
            ):
                if items:
                    found.append(f"{name}: {len(items)} {what}")
        for overlap in self.overlaps:
            if overlap.captions:
                both = " and ".join(overlap.splits)
                found.append(f"{both} share {len(overlap.captions)} caption(s)")
        return found


class Part(NamedTuple):
    """What a split was read as."""

    records: Sequence[CaptionedImage]
    skipped: list[Skip]
    left_out: list[LeftOut]


def check(parts: Mapping[str, Part], *, workers: int | None = None) -> DataReport:
    """Decodes and hashes every image, and compares the splits.

    Args:
        parts: by name of the split.
        workers: threads that decode; by default one a core.
    """
    splits: dict[str, SplitReport] = {}
    hashes: dict[str, dict[str, list[str]]] = {}
    texts: dict[str, dict[str, str]] = {}
    for name, part in parts.items():
        readable, hashes[name], unreadable = _decode(part.records, f"checking {name}", workers)
        captions = [text for record in readable for text in record.captions]
        texts[name] = {same_text(text).casefold(): text for text in captions}
        splits[name] = SplitReport(
            pictures=len(readable),
            captions=len(captions),
            captions_per_picture=_spread([len(record.captions) for record in readable]),
            caption_words=_spread([len(text.split()) for text in captions]),
            skipped=part.skipped,
            left_out=dict(Counter(item.reason for item in part.left_out)),
            unreadable=unreadable,
            duplicates=[paths for paths in hashes[name].values() if len(paths) > 1],
        )
    overlaps = [
        Overlap(
            (a, b),
            [(hashes[a][h][0], hashes[b][h][0]) for h in hashes[a] if h in hashes[b]],
            [text for key, text in texts[a].items() if key in texts[b]],
        )
        for a, b in combinations(parts, 2)
    ]
    return DataReport(splits, overlaps)


def _decode(
    records: Sequence[CaptionedImage], label: str, workers: int | None
) -> tuple[list[CaptionedImage], dict[str, list[str]], list[Skip]]:
    """Returns the readable records, the paths by hash of their bytes, and the unreadable ones."""
    readable: list[CaptionedImage] = []
    hashes: dict[str, list[str]] = {}
    unreadable: list[Skip] = []
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        # Pillow lets go of the interpreter while it decodes, so threads do keep the cores busy.
        futures = [pool.submit(_hash_readable, record.path) for record in records]
        for record, future in track(list(zip(records, futures, strict=True)), label):
            try:
                digest = future.result()
            except (ImageError, OSError) as error:
                unreadable.append(Skip(str(record.path), str(error)))
            else:
                readable.append(record)
                hashes.setdefault(digest, []).append(str(record.path))
    finally:
        # Ctrl-C must not wait for the rest of a hundred thousand images.
        pool.shutdown(cancel_futures=True)
    return readable, hashes, unreadable


def _hash_readable(path: Path) -> str:
    open_image(path)
    return file_sha256(path)


def _spread(counts: list[int]) -> Spread | None:
    if not counts:
        return None
    return Spread(
        min(counts), float(np.median(counts)), float(np.percentile(counts, 95)), max(counts)
    )
