"""What worker threads do with one image: read its file, hash it, and decode it where need be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..bundle import ImageSpec
from ..captions import Skip
from ..errors import ImageError
from ..images import load_pixels
from ..index.file_fields import image_fields
from ..index.rows import FileStamp
from ..telemetry import stage
from .candidates import Candidate
from .reading import ByteBudget, Contents, check_size, read_part, read_whole

_READING_BYTES = 256 << 20
_DECODING_BYTES = 1 << 30
_BYTES_PER_PIXEL = 6
"""At most: the decoded image, and the copy that is turned upright or made RGB."""

Pixels = npt.NDArray[np.uint8]


class Prepared(NamedTuple):
    """An image that was read; one of the last four says what is to be done with it."""

    image: Candidate
    """With the stamp of the bytes that were read."""
    sha256: str = ""
    pixels: Pixels | None = None
    """To be embedded; UINT8 `[3, H, W]`."""
    skip: Skip | None = None
    """Not usable; without a hash, its file could not be read."""
    moved_from: str | None = None
    """The old path of an image that was renamed."""
    same: bool = False
    """The index holds an image of this path with the same bytes and captions."""


class Known:
    """What the index knows of images by their bytes. Threads may share it.

    Args:
        hashes: SHA-256 by path.
        stamps: the stamp by path.
        gone: paths of images whose files are gone.
    """

    def __init__(
        self, hashes: Mapping[str, str], stamps: Mapping[str, FileStamp], gone: Iterable[str]
    ) -> None:
        self._hashes, self._stamps = hashes, stamps
        self._lock = Lock()
        self._gone: dict[str, list[str]] = {}
        for path in gone:
            if path in hashes:
                self._gone.setdefault(hashes[path], []).append(path)

    def is_same(self, image: Candidate, sha256: str) -> bool:
        """Return whether an image has the bytes and the captions that are indexed."""
        return self._hashes.get(image.path) == sha256 and self._captions_fit(image, image.path)

    def claim(self, image: Candidate, sha256: str) -> str | None:
        """Return the old path of a renamed image; each old path goes to one image only."""
        with self._lock:
            for old in self._gone.get(sha256, ()):
                if self._captions_fit(image, old):
                    self._gone[sha256].remove(old)
                    return old
        return None

    def _captions_fit(self, image: Candidate, path: str) -> bool:
        return image.stamp.captions in ("", self._stamps[path].captions)


class Worker:
    """Prepares images, each from one reading of its file. Threads may share it.

    Args:
        spec: how images become pixels.
        known: what the index knows.
        root: the folder that the images' folders are told from.
    """

    def __init__(self, spec: ImageSpec, known: Known, root: Path | None) -> None:
        self._spec, self._known, self._root = spec, known, root
        self._reading = ByteBudget(_READING_BYTES)
        self._decoding = ByteBudget(_DECODING_BYTES)

    def prepare(self, image: Candidate) -> Prepared:
        """Read, hash and decode one image; what is wrong with it becomes a skip."""
        try:
            check_size(image.stamp.bytes)
            with self._reading.holding(image.stamp.bytes):
                with stage("read", span=False):
                    contents = read_part(image.part) if image.part else read_whole(image.path)
                return self._prepare(image, contents)
        except ImageError as error:
            return Prepared(image, skip=Skip.of(image.path, error))
        except OSError as error:
            return Prepared(image, skip=Skip(image.path, str(error.strerror)))

    def _prepare(self, image: Candidate, contents: Contents) -> Prepared:
        sha256 = hashlib.sha256(contents.data).hexdigest()
        # The file may have changed since it was listed: the stamp is that of the bytes.
        stamp = FileStamp(len(contents.data), contents.mtime_ns, image.stamp.captions)
        image = image._replace(stamp=stamp)
        if self._known.is_same(image, sha256):
            return Prepared(image, sha256, same=True)
        if old := self._known.claim(image, sha256):
            return Prepared(image, sha256, moved_from=old)
        fields = image_fields(Path(image.path), contents.status, contents.data, root=self._root)
        size = int(fields.get("width", 0)) * int(fields.get("height", 0))
        try:
            with self._decoding.holding(_BYTES_PER_PIXEL * size), stage("decode", span=False):
                pixels = load_pixels(contents.data, self._spec, name=image.path)
        except ImageError as error:
            return Prepared(image, sha256, skip=Skip.of(image.path, error))
        # What the file says of itself stands beside the user's own columns.
        return Prepared(image._replace(fields={**fields, **image.fields}), sha256, pixels)
