"""What an index holds of a folder and the folder no longer holds."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from ..captions import CAPTIONS_FILE


class Missing(NamedTuple):
    """Indexed images of a folder that were not found in it."""

    gone: list[str]
    """Paths where no image file is any more: it was deleted or moved, or the path is a link now."""
    unnamed: list[str]
    """Files that are there but that the folder's `captions.jsonl` does not name."""
    roots: Collection[str]
    """The folders that were looked at."""


def find_missing(source: Path, indexed: Iterable[str], found: Collection[str]) -> Missing:
    """Compare the images of an index with those that were found in a folder.

    What lies outside the folder is left alone. What the folder links to belongs to it.

    Args:
        source: a folder, or a captions file, which stands for its folder.
        indexed: the paths in the index; they go through no links.
        found: the paths of the images that were found, likewise.
    """
    absent = [path for path in indexed if path not in found]
    if not absent:  # saves the walk
        return Missing([], [], ())
    roots = _roots(source.parent if source.is_file() else source)
    absent = [path for path in absent if _belongs(path, roots)]
    gone = [path for path in absent if _is_gone(path)]
    unnamed = []
    # A captions file that was named itself may be one of several in its folder: `train.jsonl`, say.
    if (source / CAPTIONS_FILE).is_file():
        unnamed = [path for path in sorted({*absent} - {*gone}) if os.path.exists(path)]
    return Missing(gone, unnamed, roots)


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


def _roots(folder: Path) -> set[str]:
    """Return the path of a folder, with and without links, and the paths that it links to."""
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
    return roots | {os.path.abspath(folder)}


def _belongs(path: str, roots: Collection[str]) -> bool:
    while path not in roots:
        parent = os.path.dirname(path)
        if parent == path:
            return False
        path = parent
    return True


def _is_gone(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return True
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
