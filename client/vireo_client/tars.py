"""Reads the headers of tars, which may be of strangers: a small tar can say anything of itself."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator

MAX_TEXT_BYTES = 1 << 20
"""Bytes of the captions of one sample, and of a header that names another file."""
DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, MemoryError,
          OverflowError, RecursionError, ValueError)  # fmt: skip
"""All that `tarfile` raises of a damaged tar."""

_NAMING = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
           tarfile.GNUTYPE_LONGLINK)  # fmt: skip


class Header(tarfile.TarInfo):
    """A header that is held to what is possible, before its file is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _NAMING and header.size > MAX_TEXT_BYTES):
            raise tarfile.HeaderError(f"a header says {header.size:,} bytes")
        return header


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar that was opened with `tarinfo=Header`; none is kept in memory.

    Raises:
        tarfile.TarError: the tar breaks off here. Damage may raise others of `DAMAGE` as well.
    """
    end = -1
    while (member := tar.next()) is not None:
        # A header that says a negative size leads back, and round for ever (CVE-2025-8194).
        if member.size < 0 or tar.offset <= end:
            raise tarfile.ReadError("a header that leads back")
        end = tar.offset
        tar.members.clear()  # type: ignore[attr-defined]
        yield member
    # `tarfile` takes garbage in place of a header for the end, and raises nothing.
    if tar.fileobj is not None:
        tar.fileobj.seek(tar.offset)
        if any(tar.fileobj.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError("it goes on with what is no header")
