"""What `vireo web` works out of its options, before anything heavy is imported."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

from vireo_client.bundle import BUNDLE_FILE
from vireo_client.errors import DataError, VireoError
from vireo_client.index.catalogue import CATALOGUE_FILE

_LEAST_KEY = 16


def find_source(
    source: Path | None, index: Path, model: Path | None, *, needs_model: bool
) -> tuple[Path, Path | None, Path | None]:
    """Tell an index from a folder of images.

    Returns:
        The index, the folder to bring it to, and the model that makes it; None where there is none
        to name.

    Raises:
        DataError: there is nothing at `source`, or no model to index it with.
    """
    if source is None or (source / CATALOGUE_FILE).is_file():
        return source or index, None, model
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; give an index or a folder of images")
    if (source / BUNDLE_FILE).is_file():
        raise DataError(f"{source}: is a model; give an index or a folder of images, and --model")
    if model is None and not (index / CATALOGUE_FILE).is_file():
        model = _model_at_hand()
        if model is None:
            what = "--model MODEL_REPOSITORY" if needs_model else "--model, a folder of the bundle"
            raise DataError(
                f"{source}: no model at hand to index it with; give {what} (`vireo demo` makes a "
                "small one)"
            )
    return index, source, model


def _model_at_hand() -> Path | None:
    """Return the newest model repository in the working folder."""
    places = [Path("model_repository"), *Path("runs").glob("*/model_repository")]
    found = [place for place in places if (place / BUNDLE_FILE).is_file()]
    return max(found, key=lambda place: (place / BUNDLE_FILE).stat().st_mtime, default=None)


def read_keys(keys: list[str], file: Path | None) -> tuple[str, ...]:
    """Return the keys that callers may show.

    Raises:
        DataError: the file cannot be read or holds none, or a key is too short to be one.
    """
    if file is not None:
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: cannot be read as keys ({error})") from None
        found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not found:
            raise DataError(f"{file}: holds no key; write one a line")
        keys = [*keys, *found]
    for key in keys:
        if len(key) < _LEAST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise DataError(
                f"a key of {len(key)} characters: give {_LEAST_KEY} or more, of printable ASCII "
                "without spaces; `openssl rand -hex 24` makes one"
            )
    return tuple(keys)


def check_origins(origins: tuple[str, ...]) -> None:
    """Refuse what is no origin of a page.

    Raises:
        DataError: one is not `http[s]://HOST[:PORT]`.
    """
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
            raise DataError(f"--cors {origin}: give an origin such as https://photos.example")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server at an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_key(host: str, keys: tuple[str, ...]) -> None:
    """Refuse to serve others than this machine without a key.

    Raises:
        VireoError: there is none.
    """
    if not keys and not is_loopback(host):
        raise VireoError(
            f"--host {host}: others than this machine reach it, so that a key is needed; give "
            "--key-file FILE (`openssl rand -hex 24 > FILE` makes one)"
        )
