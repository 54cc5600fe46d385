"""Finds the images in a folder: all that Pillow may read, and by name what else is there."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from .captions import Skip
from .errors import DataError
from .images import SUFFIXES, is_heif

_KINDS = {
    "videos": "mp4 m4v mov avi mkv webm mpg mpeg 3gp mts m2ts wmv flv",
    "raw photos": "cr2 cr3 crw nef nrw arw dng raf orf rw2 pef srw raw",
    # Text, programs and archives are not opened to look whether they are images.
    "other files": "txt md json jsonl csv tsv xml html htm yaml yml toml ini log py sh js css pdf "
    "docx doc xls xlsx ppt pptx zip gz tar bz2 xz 7z rar mp3 wav m4a flac ogg sqlite db "
    "faiss npy npz pt onnx safetensors eps ps svg parquet xmp aae thm tmp bak",
}
_KIND_OF = {f".{suffix}": kind for kind, words in _KINDS.items() for suffix in words.split()}
_UNKNOWN = "other files"

_SURE = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "QOI", "PSD")
"""Formats whose first bytes no other file has by chance."""


@dataclass
class FolderImages:
    """What a folder holds."""

    images: list[Path] = field(default_factory=list)
    """Files to open as images, sorted."""
    skipped: list[Skip] = field(default_factory=list)
    """Dead links, and folders that cannot be read."""
    others: Counter[str] = field(default_factory=Counter)
    """How many files of each kind are no images: videos, raw photos, other files."""

    def describe_others(self) -> str:
        """Return the counts in words; empty if all files are images."""
        return ", ".join(f"{count} {kind}" for kind, count in sorted(self.others.items()))


def find_images(folder: Path) -> list[Path]:
    """List the image files below `folder`, sorted, without hidden files and folders.

    Raises:
        DataError: `folder` itself cannot be read.
    """
    return scan_folder(folder).images


def scan_folder(folder: Path) -> FolderImages:
    """Look through a folder, without hidden files and folders.

    A file is an image by its suffix, or by its first bytes where the suffix is unknown. A linked
    folder is followed; each folder is looked through once, whatever links lead to it.

    Raises:
        DataError: `folder` itself cannot be read.
    """
    found = FolderImages()
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
    seen: set[tuple[int, int]] = set()
    folders, links = [os.fspath(folder)], list[str]()
    # Real folders first: an image is then known by its own path rather than by that of a link.
    while folders or links:
        path = folders.pop() if folders else links.pop(links.index(min(links)))
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            if identity not in seen:
                seen.add(identity)
                _scan(path, folders, links, found)
        except OSError as error:
            found.skipped.append(Skip(path, f"folder cannot be read ({error.strerror})"))
    found.images.sort()
    found.skipped.sort(key=lambda skip: skip.where)
    return found


def _scan(folder: str, folders: list[str], links: list[str], found: FolderImages) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    (links if entry.is_symlink() else folders).append(entry.path)
                elif entry.is_file():
                    _sort_in(entry, found)
                elif entry.is_symlink():
                    found.skipped.append(Skip(entry.path, "a link to nothing; mend or remove it"))
            except OSError as error:  # a link that leads back to itself, say
                found.skipped.append(Skip(entry.path, f"cannot be followed ({error.strerror})"))


def _sort_in(entry: os.DirEntry[str], found: FolderImages) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in SUFFIXES:
        found.images.append(Path(entry.path))
        return
    kind = _KIND_OF.get(suffix)
    if kind is None and _begins_as_image(entry.path):
        found.images.append(Path(entry.path))
    else:
        found.others[kind or _UNKNOWN] += 1


def _begins_as_image(path: str) -> bool:
    """Return whether a file begins as images of the usual formats do."""
    try:
        with open(path, "rb") as file:
            prefix = file.read(16)
    except OSError:
        return False
    Image.init()
    accepts = (Image.OPEN[name][1] for name in _SURE if name in Image.OPEN)
    return is_heif(prefix) or any(accept and accept(prefix) is True for accept in accepts)
