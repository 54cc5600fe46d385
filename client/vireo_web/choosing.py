"""The folders that a caller may choose: the allowed roots and what lies below them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vireo_client.errors import DataError
from vireo_client.images import SUFFIXES

from .problems import NotAllowedError, NotFoundError
from .schemas import FoldersAnswer, FoldersEntry, Root

_MOST_FOLDERS = 1000
_MOST_COUNTED = 2000
"""Entries of a folder that are looked at to count its images."""


def resolve_roots(roots: Sequence[Path]) -> list[Path]:
    """Return the roots without links, each once."""
    return list(dict.fromkeys(Path(os.path.realpath(root)) for root in roots))


def check_allowed(folder: str, roots: Sequence[Path]) -> Path:
    """Return a folder without links and `..`.

    Nothing is asked of the file system before the path is known to be below a root, by its letters
    first and without links then.

    Raises:
        DataError: the path cannot be one, or is not absolute.
        NotAllowedError: it lies outside the roots.
        NotFoundError: there is no such folder.
    """
    if "\0" in folder or any("\ud800" <= letter <= "\udfff" for letter in folder):
        raise DataError("folder: holds a character that no path has")
    path = Path(os.path.normpath(os.path.expanduser(folder) if folder[:2] == "~/" else folder))
    if not path.is_absolute():
        raise DataError(f"{folder[:200]}: is no absolute path; give one from /")
    refused = NotAllowedError(
        f"{folder[:200]}: lies outside the folders that may be chosen; start the server with "
        "--root FOLDER to allow it"
    )
    if not is_below(path, roots):
        raise refused
    try:
        real = Path(os.path.realpath(path))
        if not is_below(real, roots):
            raise refused
        if not real.is_dir():
            raise NotFoundError(f"{folder[:200]}: no such folder")
    except OSError as error:  # a name that is too long, say
        raise NotFoundError(f"{folder[:200]}: {error.strerror}") from None
    return real


def is_below(path: Path, roots: Sequence[Path]) -> bool:
    """Return whether a path is one of the roots or lies below one."""
    return any(path == root or root in path.parents for root in roots)


def list_roots(roots: Sequence[Path]) -> FoldersAnswer:
    """Return the roots as folders of a folder without a name."""
    return FoldersAnswer(
        path="",
        parent=None,
        folders=[FoldersEntry(name=one.label, path=one.path, images=None) for one in label(roots)],
    )


def label(roots: Sequence[Path]) -> list[Root]:
    """Name the roots for a person."""
    return [Root(path=str(root), label=root.name or str(root)) for root in roots]


def list_folders(folder: Path, roots: Sequence[Path]) -> FoldersAnswer:
    """List the folders in one, without hidden ones and links that lead outside.

    Raises:
        NotAllowedError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(entry.name for entry in entries if _is_shown(entry, roots))
    except OSError as error:
        raise NotAllowedError(f"{folder}: cannot be read ({error.strerror})") from None
    parent = str(folder.parent) if is_below(folder.parent, roots) else ""
    return FoldersAnswer(
        path=str(folder),
        parent=parent,
        folders=[
            FoldersEntry(name=name, path=str(folder / name), images=_count(folder / name))
            for name in found[:_MOST_FOLDERS]
        ],
    )


def _is_shown(entry: os.DirEntry[str], roots: Sequence[Path]) -> bool:
    if entry.name.startswith(".") or not entry.name.isprintable():
        return False
    try:
        if not entry.is_dir():
            return False
        return not entry.is_symlink() or is_below(Path(os.path.realpath(entry.path)), roots)
    except OSError:
        return False


def _count(folder: Path) -> int | None:
    """Count the images directly in a folder; None where it has very many entries."""
    count = 0
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number >= _MOST_COUNTED:
                    return None
                count += os.path.splitext(entry.name)[1].lower() in SUFFIXES
    except OSError:
        return None
    return count
