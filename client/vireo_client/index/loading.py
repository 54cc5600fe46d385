"""The embeddings of one committed state, opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..errors import SearchIndexError
from .catalogue import Catalogue
from .legacy import load_legacy
from .opening import check_small
from .rows import Layout, State
from .segments import NO_ROWS, PARTS, Segment
from .storage import open_segment

# A reader that loses the race against a compaction tries again. Each attempt that fails means one
# more save, so that this many in a row mean a fault.
_LOAD_ATTEMPTS = 100


class Vectors(NamedTuple):
    """The segments of one committed state, in the order of their ids."""

    state: State
    parts: dict[str, list[Segment]]
    """By name: `images` and `captions`."""


def load_vectors(
    folder: Path,
    catalogue: Catalogue,
    dim: int,
    before: Vectors | None = None,
    *,
    structures: bool = True,
) -> Vectors:
    """Open the segments of the newest committed state.

    Args:
        folder: the index.
        catalogue: its catalogue.
        dim: the embedding size that the files must have.
        before: an older state of the same index; the segments that both have are not opened again.
        structures: open the search structures, too.

    Raises:
        SearchIndexError: a file is missing, damaged, or does not fit the catalogue.
    """
    parts = before.parts.values() if before else ()
    opened = {segment.entry.name: segment for part in parts for segment in part}
    for attempt in range(1, _LOAD_ATTEMPTS + 1):
        layout = catalogue.layout(checked=True)
        try:
            if layout.state.version == 1:
                vectors = Vectors(layout.state, load_legacy(folder, layout.state, dim))
            else:
                vectors = _open(folder, layout, dim, opened, structures)
            if before is None:
                check_small(catalogue, *vectors)
            return vectors
        except SearchIndexError:
            # A writer may have compacted since, and swept these files away.
            if catalogue.state() == layout.state or attempt == _LOAD_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _open(
    folder: Path, layout: Layout, dim: int, opened: Mapping[str, Segment], structures: bool
) -> Vectors:
    parts: dict[str, list[Segment]] = {part: [] for part in PARTS}
    for entry in layout.segments:
        removed = layout.removed.get(entry.name, NO_ROWS)
        if len(removed) and not 0 <= removed[0] <= removed[-1] < entry.rows:
            raise SearchIndexError(
                f"{folder}: the catalogue removes rows of segment {entry.name} that it does not "
                "have; see `vireo index verify`"
            )
        known = opened.get(entry.name)
        if known is not None and known.entry == entry:
            segment = replace(known, removed=removed)
        else:
            segment = open_segment(folder, entry, dim, removed, structures=structures)
        parts[entry.part].append(segment)
    for part, segments in parts.items():
        present = sum(s.entry.rows - len(s.removed) for s in segments)
        expected = getattr(layout.state, part)
        if present != expected:
            raise SearchIndexError(
                f"{folder}: its segments hold {present} {part}, the catalogue has {expected}; see "
                "`vireo index verify`"
            )
        segments.sort(key=lambda segment: int(segment.ids[0]))
    return Vectors(layout.state, parts)
