"""What a writer is told to change: images to add, and images whose files have another path now."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .catalogue import FileStamp

NO_FIELDS: Mapping[str, str | int | float] = MappingProxyType({})


class NewImage(NamedTuple):
    """An image to add, with its captions."""

    path: str
    sha256: str
    stamp: FileStamp
    embedding: npt.NDArray[np.float32]
    """FP32 `[D]`."""
    captions: tuple[str, ...] = ()
    caption_embeddings: npt.NDArray[np.float32] | None = None
    """FP32 `[len(captions), D]`; None or anything without captions."""
    fields: Mapping[str, str | int | float] = NO_FIELDS
    """Metadata by column: what the file says of itself, and the user's own."""


class Move(NamedTuple):
    """An indexed image whose file has another path now."""

    old: str
    new: str
    stamp: FileStamp
    """The file's at its new path; without captions, the image keeps those it has."""
