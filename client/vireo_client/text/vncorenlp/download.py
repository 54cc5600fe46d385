"""Downloads VnCoreNLP's word segmentation model: each file is checked, and whole or absent."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from vireo_client import environment
from vireo_client.errors import SegmenterError
from vireo_client.files import replacing_file
from vireo_client.progress import progress_bar

DEFAULT_URL = "https://raw.githubusercontent.com/vncorenlp/VnCoreNLP/master/models/wordsegmenter"

_TIMEOUT_SECONDS = 5.0
_CHUNK_BYTES = 1 << 16
# The files have half a megabyte; an answer that is far larger is something else.
_MAX_BYTES = 1 << 24


def download(target: Path, files: Mapping[str, str]) -> None:
    """Download the files that `target` lacks; each is whole or absent.

    Args:
        target: The folder, which is created.
        files: The files' names and SHA-256.

    Raises:
        SegmenterError: If downloads are off, one fails or does not match its checksum, or the
            folder cannot be written.
    """
    if environment.offline():
        raise SegmenterError(f"downloads are off: {environment.OFFLINE} is set")
    base = (environment.vncorenlp_url() or DEFAULT_URL).rstrip("/")
    for name, checksum in files.items():
        if not (target / name).is_file():
            _download_file(f"{base}/{name}", target / name, checksum)


def _download_file(url: str, path: Path, checksum: str) -> None:
    digest = hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as file:
            for chunk in _chunks(url):
                digest.update(chunk)
                file.write(chunk)
            if digest.hexdigest() != checksum:
                raise SegmenterError(
                    f"{url}: its SHA-256 is {digest.hexdigest()[:12]}..., not {checksum[:12]}..."
                )
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SegmenterError(f"{url}: cannot be downloaded to {path.parent} ({error})") from error


def _chunks(url: str) -> Iterator[bytes]:
    """Yield the bytes behind a URL, with progress on standard error.

    Raises:
        OSError: If the transfer fails, breaks off or is far too long.
        ValueError: If it is not a URL.
    """
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        expected = int(response.headers.get("Content-Length") or 0)
        received = 0
        with progress_bar() as progress:
            task = progress.add_task(f"download {url.rpartition('/')[2]}", total=expected or None)
            while chunk := response.read(_CHUNK_BYTES):
                received += len(chunk)
                if received > _MAX_BYTES:
                    raise OSError(f"more than {_MAX_BYTES >> 20} MiB arrived")
                progress.advance(task, len(chunk))
                yield chunk
    if received < expected:
        raise OSError(f"broke off after {received} of {expected} bytes")
