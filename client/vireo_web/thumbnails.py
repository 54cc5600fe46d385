"""Small versions of images, made once and kept on the disk.

They are named by the SHA-256 of the image's file, so that copies of one image share them, and a
file that was changed gets new ones. When they take more than they may, those that were not asked
for the longest are removed.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from contextlib import suppress
from pathlib import Path
from threading import Lock

from PIL import Image
from vireo_client.errors import ImageError
from vireo_client.files import replacing_file
from vireo_client.images import decoding_work, open_header, open_image
from vireo_client.index.rows import ImageRow
from vireo_client.indexing.reading import ByteBudget

from .files import is_unchanged, read_image
from .problems import GoneError

logger = logging.getLogger(__name__)

SIZES = (128, 256, 512, 1024, 2048)
"""The longer sides that there are; another size is rounded up to one of them."""
MEDIA_TYPE = "image/jpeg"
_QUALITY = 82
_DECODED = 512 << 20
"""The bytes of pixels that are held at the same time while thumbnails are made."""
_KEPT = 0.9
"""The share of the room that stays taken when thumbnails are removed."""


class Thumbnails:
    """A folder of thumbnails; threads may share it, and so may processes.

    Args:
        folder: where they are kept; it is made at need.
        limit: the bytes that they may take.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._lock = Lock()
        self._bytes: int | None = None
        self._tells = True
        self._decoding = ByteBudget(_DECODED)

    def get(self, row: ImageRow, size: int) -> tuple[str, bytes]:
        """Return a name for the thumbnail's contents, and the thumbnail as JPEG.

        Raises:
            GoneError: the image's file is gone or is no image any more.
        """
        size = next((known for known in SIZES if known >= size), SIZES[-1])
        if is_unchanged(row) and (kept := self._read(row.sha256, size)) is not None:
            return f"{row.sha256}-{size}", kept
        data = read_image(row).data
        digest = hashlib.sha256(data).hexdigest()
        if digest != row.sha256 and (kept := self._read(digest, size)) is not None:
            return f"{digest}-{size}", kept
        try:
            with self._decoding.holding(3 * decoding_work(data)):
                made = _make(data, size, row.path)
        except ImageError as error:
            raise GoneError(f"{row.path}: cannot be shown ({error})") from None
        self._keep(digest, size, made)
        return f"{digest}-{size}", made

    def _place(self, digest: str, size: int) -> Path:
        return self._folder / digest[:2] / f"{digest}-{size}.jpg"

    def _read(self, digest: str, size: int) -> bytes | None:
        place = self._place(digest, size)
        try:
            data = place.read_bytes()
            os.utime(place)  # the last use, by which they are removed
        except OSError:
            return None
        return data

    def _keep(self, digest: str, size: int, data: bytes) -> None:
        """Write a thumbnail; a full disk costs its keeping alone."""
        place = self._place(digest, size)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(place) as file:
                file.write(data)
        except OSError as error:
            if self._tells:
                logger.warning("%s: thumbnails are not kept (%s)", self._folder, error)
            self._tells = False
            return
        with self._lock:
            if self._bytes is None:
                self._bytes = sum(size for _, size, _ in self._listed())
            else:
                self._bytes += len(data)
            if self._bytes > self._limit:
                self._bytes = self._make_room()

    def _listed(self) -> list[tuple[float, int, Path]]:
        """List the thumbnails: last use, bytes and path."""
        found = []
        for path in self._folder.glob("??/*.jpg"):
            with suppress(OSError):  # another process may have removed it
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found

    def _make_room(self) -> int:
        """Remove the least recently used; return the bytes of those that stay."""
        listed = sorted(self._listed())
        taken = sum(size for _, size, _ in listed)
        for _, size, path in listed:
            if taken <= self._limit * _KEPT:
                break
            with suppress(OSError):
                path.unlink()
            taken -= size
        return taken


def _make(data: bytes, size: int, name: str) -> bytes:
    image = open_image(_reduced(data, size), name=name, least=size)
    image.thumbnail((size, size), reducing_gap=3.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, progressive=size > 512)
    return out.getvalue()


def _reduced(data: bytes, size: int) -> Image.Image | bytes:
    """Let a JPEG be decoded at a reduced scale, still 1.5 times as large as the thumbnail."""
    try:
        image = open_header(io.BytesIO(data))
    except Exception:  # `open_image` says what is wrong
        return data
    if image.format not in ("JPEG", "MPO"):
        return data
    image.draft(None, (3 * size // 2, 3 * size // 2))
    return image
