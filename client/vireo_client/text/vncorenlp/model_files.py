"""Finds VnCoreNLP's word segmentation model in a folder, or downloads it into the cache.

The places, in this order: the given folder (a bundle is one), `$VIREO_DATA`, the user's cache. If
none has the files, they are downloaded into the cache and checked against their SHA-256.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vireo_client import environment
from vireo_client.errors import SegmenterError

FILES = {
    "vi-vocab": "0a47c5b55bbce163029d37730a67b9479740388695c29c106c112b815613eaa5",
    "wordsegmenter.rdr": "9e62f96bd93e37a24f364238e8d8ae986fa5dad6dbc9f4eae622ab3651b7fa06",
}
"""The model's files and their SHA-256."""

_IN_DATA = Path("vncorenlp", "models", "wordsegmenter")


def find_model(folder: Path | None = None) -> Path:
    """Find the folder with the model's files, and download them if necessary.

    Args:
        folder: The folder that must hold them. Without it, the other places are tried.

    Raises:
        SegmenterError: If the given folder lacks them, or no place has them and the download fails.
    """
    if folder is not None:
        model = _complete(folder) or _complete(folder / "models" / "wordsegmenter")
        if model is None:
            raise SegmenterError(
                f"{folder}: holds no {' and '.join(FILES)}; name the folder that does"
            )
        return model
    for place in _places():
        if (model := _complete(place)) is not None:
            return model
    # Imported here: to import HTTP takes longer than to load the model, and is seldom necessary.
    from vireo_client.text.vncorenlp.download import download

    cache = cache_folder()
    try:
        download(cache, FILES)
    except SegmenterError as error:
        raise SegmenterError(
            f"VnCoreNLP's word segmentation model was not found ({error}); put "
            f"{' and '.join(FILES)} into {cache}, name their folder, or choose another segmenter"
        ) from error
    return cache


def cache_folder() -> Path:
    """Return the user's cache folder for the model, by the XDG base directory specification."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # By the specification, a relative path in this variable is ignored.
    root = Path(base) if base.startswith("/") else Path("~/.cache").expanduser()
    return root / "vireo" / _IN_DATA


def _places() -> Iterator[Path]:
    if data := environment.data_folder():
        yield data / _IN_DATA
    yield cache_folder()


def _complete(folder: Path) -> Path | None:
    return folder if all((folder / name).is_file() for name in FILES) else None
