"""Rows of the index's catalogue, as tuples."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .segments import SegmentRow

SCHEMA_VERSION = 2
Ids = npt.NDArray[np.int64]
NO_FIELDS: Mapping[str, str | int | float | bool] = MappingProxyType({})


class FileStamp(NamedTuple):
    """Size, time and captions of an image when it was indexed: another stamp means a change."""

    bytes: int
    mtime_ns: int
    captions: str = ""
    """Digest of the image's captions; empty without any."""


class ImageRow(NamedTuple):
    """An image's row."""

    id: int
    path: str
    sha256: str
    stamp: FileStamp


class CaptionRow(NamedTuple):
    """A caption's row."""

    id: int
    image_id: int
    text: str


class State(NamedTuple):
    """One committed state of an index."""

    generation: int
    """The number of saves so far."""
    writer_id: str
    """Eight hexadecimal digits that name the writer of this generation's vector files; empty for an
    index whose files carry none."""
    images: int
    captions: int
    version: int = SCHEMA_VERSION
    """The schema's."""


class Layout(NamedTuple):
    """The segments of one committed state."""

    state: State
    segments: list[SegmentRow]
    removed: dict[str, npt.NDArray[np.int64]]
    """Rows that were removed, ascending, by segment; a segment without any is left out."""


class FoundRow(NamedTuple):
    """What stands behind an id."""

    path: str
    """The image's, or that of the image which a caption describes."""
    text: str | None
    """A caption's."""
    image_id: int
    fields: Mapping[str, str | int | float | bool]
    """The image's metadata by name."""


class Found(NamedTuple):
    """Rows that were looked up by id."""

    saved: tuple[int, str]
    """Generation and writer of the state that the rows are of."""
    rows: dict[int, FoundRow]
