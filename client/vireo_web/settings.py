"""What a server of the page and the API is told once, when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vireo_client import environment
from vireo_client.towers.connection import ConnectionOptions
from vireo_client.towers.tls import ClientTls


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a request may ask for, and the longest that it may take."""

    upload_bytes: int = 20 << 20
    """The bytes of one uploaded image."""
    body_bytes: int = 32 << 20
    """The bytes of one request."""
    text_characters: int = 2000
    """The characters of one text."""
    matches: int = 500
    """The matches of one search."""
    texts: int = 256
    """The texts that one request embeds."""
    images: int = 16
    """The images that one request embeds."""
    download_files: int = 500
    """The files of one zip."""
    download_bytes: int = 2 << 30
    """The bytes of the files of one zip."""
    seconds: float = 30.0
    """The time until an answer begins."""
    upload_seconds: float = 60.0
    """The time in which a request must have arrived."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is served, and to whom.

    All callers may do all things, so that `keys` belong to people who may index and read.
    """

    index: Path
    """The folder of the index; it need not exist yet."""
    model: Path | None = None
    """The model repository; by default the one that made the index."""
    triton: str | None = None
    """The Triton that embeds; None embeds in this process."""
    tls: ClientTls | None = None
    connection: ConnectionOptions | None = None
    roots: tuple[Path, ...] = ()
    """The folders below which a caller may choose one to index."""
    keys: tuple[str, ...] = ()
    """The keys of which a caller must show one; without any, nobody is asked for a key."""
    origins: tuple[str, ...] = ()
    """The origins of other pages that may call the API, such as `https://photos.example`."""
    hosts: tuple[str, ...] = ()
    """The names, besides `localhost` and addresses, under which this server is called."""
    cache: Path = field(default_factory=lambda: environment.cache_folder() / "thumbnails")
    """The folder of the thumbnails."""
    cache_bytes: int = 1 << 30
    """The bytes that thumbnails may take."""
    limits: Limits = field(default_factory=Limits)
