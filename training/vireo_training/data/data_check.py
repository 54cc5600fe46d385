"""Checks of a data set before training on it: `vireo data check`."""

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

from .same_text import text_key


class Spread(NamedTuple):
    """The distribution of a count."""

    min: int
    median: float
    p95: float
    max: int


@dataclass(frozen=True)
class SharedCaptions:
    """Captions whose text several images have; such images are right answers for each other's."""

    captions: int
    """All captions with such a text, one for each image that has it."""
    share: float
    """The same as a share of all captions."""
    texts: int
    """The number of different texts among them."""
    images_per_text: Spread | None
    """The number of images that have such a text; None where there is none."""


@dataclass(frozen=True)
class SplitReport:
    """The counts and faults of one split."""

    pictures: int
    """The number of readable images; the counts below are of these."""
    captions: int
    captions_per_picture: Spread | None
    """None where no image can be read."""
    caption_words: Spread | None
    """Words between spaces: in Vietnamese, syllables."""
    skipped: list[Skip]
    shared_captions: SharedCaptions
    left_out: dict[str, int]
    """The number of captions left out by design, by reason."""
    unreadable: list[Skip]
    duplicates: list[list[str]]
    """Groups of files with the same bytes."""


@dataclass(frozen=True)
class Overlap:
    """Images and captions that two splits share."""

    splits: tuple[str, str]
    pictures: list[tuple[str, str]]
    """Files with the same bytes, one of each split."""
    captions: list[str]
    """Captions in both splits, of any image; case, spaces and Unicode form are ignored."""


@dataclass(frozen=True)
class DataReport:
    """The findings: those that spoil training, and those to look at."""

    splits: dict[str, SplitReport]
    overlaps: list[Overlap]

    @property
    def problems(self) -> list[str]:
        """The findings that would spoil training or its evaluation."""
        problems = [f"{name}: no usable image" for name, s in self.splits.items() if not s.pictures]
        for overlap in self.overlaps:
            if overlap.pictures:
                problems.append(
                    f"{' and '.join(overlap.splits)} share {len(overlap.pictures)} image(s): "
                    "remove them from one split"
                )
        return problems

    @property
    def warnings(self) -> list[str]:
        """The findings that training survives, and that somebody should look at."""
        warnings = []
        for name, split in self.splits.items():
            for items, what in (
                (split.skipped, "record(s) skipped"),
                (split.unreadable, "unreadable image(s)"),
                (split.duplicates, "image(s) with copies under other names"),
            ):
                if items:
                    warnings.append(f"{name}: {len(items)} {what}")
        for overlap in self.overlaps:
            if overlap.captions:
                both = " and ".join(overlap.splits)
                warnings.append(f"{both} share {len(overlap.captions)} caption(s)")
        return warnings


class Part(NamedTuple):
    """A split as it was read."""

    records: Sequence[CaptionedImage]
    skipped: list[Skip]
    left_out: list[LeftOut]


def check(parts: Mapping[str, Part], *, workers: int | None = None) -> DataReport:
    """Decode and hash every image, and compare the splits.

    Args:
        parts: the splits, by name.
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
            shared_captions=_shared(readable),
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
    """Return the readable records, the paths by hash of their bytes, and the unreadable ones."""
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


def _shared(records: Sequence[CaptionedImage]) -> SharedCaptions:
    keys = [[text_key(text) for text in record.captions] for record in records]
    images = Counter(key for each in keys for key in set(each))
    counts = [count for count in images.values() if count > 1]
    captions = [key for each in keys for key in each]
    shared = sum(images[key] > 1 for key in captions)
    share = shared / len(captions) if captions else 0.0
    return SharedCaptions(shared, share, len(counts), _spread(counts))


def _spread(counts: list[int]) -> Spread | None:
    if not counts:
        return None
    return Spread(
        min(counts), float(np.median(counts)), float(np.percentile(counts, 95)), max(counts)
    )
