"""What an index holds of a folder and the folder no longer holds."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from ..captions import CAPTIONS_FILE
from .archives import is_archive


class Missing(NamedTuple):
    """Indexed images of a folder that were not found in it."""

    gone: list[str]
    """Paths where no image file is any more: it was deleted or moved, or the path is a link now."""
    unnamed: list[str]
    """Files that are there but that the folder's `captions.jsonl` does not name."""
    unlisted: list[str]
    """Files that are there but were not listed among the images of a folder without captions."""
    roots: Collection[str]
    """The folders that were looked at."""


def find_missing(source: Path, indexed: Iterable[str], found: Collection[str]) -> Missing:
    """Compare the images of an index with those that were found in a folder.

    What lies outside the folder is left alone. What the folder links to belongs to it.

    Args:
        source: a folder; a list of images, which stands for its folder; or an archive.
        indexed: the paths in the index; they go through no links.
        found: the paths of the images that were found, likewise.
    """
    absent = [path for path in indexed if path not in found]
    if not absent:  # saves the walk
        return Missing([], [], [], ())
    if source.is_file() and is_archive(source):
        inside = os.path.join(os.path.realpath(source), "")
        return Missing([path for path in absent if path.startswith(inside)], [], [], ())
    folder = source.parent if source.is_file() else source
    own = {os.path.abspath(folder), os.path.realpath(folder)}
    roots = own | _linked(folder)
    absent = [path for path in absent if _root_of(path, roots) is not None]
    gone = [path for path in absent if _is_gone(path)]
    present = [path for path in sorted({*absent} - {*gone}) if os.path.exists(path)]
    if source.is_file():  # it may be one of several captions files: `train.jsonl`, say
        return Missing(gone, [], [], roots)
    if (source / CAPTIONS_FILE).is_file():
        # Others may name the images of a folder that this one links to.
        unnamed = [path for path in present if _root_of(path, own) is not None]
        return Missing(gone, unnamed, [], roots)
    # A hidden folder that was indexed by itself is no part of the folder that it lies in.
    return Missing(gone, [], [path for path in present if not _is_hidden(path, roots)], roots)


def group_by_empty_folder(paths: Iterable[str], roots: Collection[str]) -> dict[str, list[str]]:
    """Group images that are gone by the empty folder that is left in their place.

    Such a folder is what a disk leaves that is not mounted. Images whose folder holds other things,
    or was deleted with them, are in no group.
    """
    groups: dict[str, list[str]] = {}
    empty: dict[str, str | None] = {}
    for path in paths:
        parent = os.path.dirname(path)
        if parent not in empty:
            empty[parent] = _empty_folder(parent, roots)
        folder = empty[parent]
        if folder is not None:
            groups.setdefault(folder, []).append(path)
    return groups


def _linked(folder: Path) -> set[str]:
    """Return the paths that a folder links to, and its own, all without links."""
    waiting = [os.path.realpath(folder)]
    roots: set[str] = set()
    while waiting:
        root = waiting.pop()
        if root in roots:
            continue
        roots.add(root)
        for place, folders, files in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in (*folders, *files):
                path = os.path.join(place, name)
                # Links to files that are there lead to nothing that is missing.
                if os.path.islink(path) and not os.path.isfile(path):
                    waiting.append(os.path.realpath(path))
    return roots


def _root_of(path: str, roots: Collection[str]) -> str | None:
    """Return the nearest root that a path lies in."""
    while path not in roots:
        parent = os.path.dirname(path)
        if parent == path:
            return None
        path = parent
    return path


def _is_hidden(path: str, roots: Collection[str]) -> bool:
    below = os.path.relpath(path, _root_of(path, roots))
    return below != "." and any(part.startswith(".") for part in Path(below).parts)


def _is_gone(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return True
    except NotADirectoryError:  # part of it is a file: an archive that holds images, perhaps
        return not any(is_archive(folder) and folder.is_file() for folder in Path(path).parents)
    except OSError:  # a folder that may not be entered says nothing of its files
        return False
    return not stat.S_ISREG(mode) or os.path.realpath(path) != path


def _empty_folder(folder: str, roots: Collection[str]) -> str | None:
    """Return the nearest folder that is still there, if it is empty, or the root that is not."""
    while not os.path.isdir(folder):
        if folder in roots:
            return folder
        folder = os.path.dirname(folder)
    try:
        return None if any(not n.startswith(".") for n in os.listdir(folder)) else folder
    except OSError:
        return folder
