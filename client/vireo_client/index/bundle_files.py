"""An index and its model: the small files that an index keeps, and where its repository is found.

An index keeps `bundle.json`, the tokenizer and the segmenter's files of its bundle in a folder of
its own: enough to search through a Triton that serves the bundle. It does not keep engines and
weights. A search in this process finds them in the model repository, whose place the index
remembers relative to itself, so that both can be moved together.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ..bundle import BUNDLE_FILE, Bundle, file_sha256, read_bundle_config
from ..errors import BundleError, SearchIndexError
from ..files import replacing
from .catalogue import CATALOGUE_FILE, Catalogue
from .storage import sync
from .writable import WritableCatalogue

BUNDLE_FOLDER = "bundle"
BUNDLE_DIGESTS = "bundle_files"
"""Meta key: JSON of the SHA-256 of each file in that folder."""
_PLACE = "repository"
"""Meta key: the model folder, relative to the index, parted by `/`."""
_ABSOLUTE_PLACE = "model"
"""Meta key of indexes written before `_PLACE`: the model folder's absolute path."""


def record_bundle(folder: Path, catalogue: WritableCatalogue, bundle: Bundle) -> None:
    """Copy the small files of `bundle` into the index, and record where its folder lies.

    Raises:
        VireoError, OSError: the files cannot be read or written.
    """
    own_folder = folder / BUNDLE_FOLDER
    if bundle.folder.resolve() == own_folder.resolve():
        return  # through Triton, an index can be extended with nothing but its own files
    _copy_files(bundle, own_folder)
    noted = {
        _PLACE: _relative(bundle.folder, folder),
        BUNDLE_DIGESTS: json.dumps({f.name: file_sha256(f) for f in _small_files(bundle)}),
    }
    known = {key: catalogue.meta(key) for key in noted}
    if known != noted or catalogue.meta(_ABSOLUTE_PLACE) is not None:
        with catalogue.transaction():
            catalogue.set_meta(**noted)
            catalogue.remove_meta(_ABSOLUTE_PLACE)


def move_place(catalogue: WritableCatalogue, old: Path, new: Path) -> None:
    """Let a copy of an index find its model repository from where the copy lies."""
    place = catalogue.meta(_PLACE)
    if place and catalogue.state().version > 1:
        with catalogue.transaction():
            catalogue.set_meta(**{_PLACE: _relative(old / place, new)})


def sweep_drafts(folder: Path) -> None:
    """Remove the half-written copies of a writer that was killed."""
    for draft in folder.glob(f".{BUNDLE_FOLDER}-*"):
        shutil.rmtree(draft)


def open_bundle(folder: str | Path, model: str | Path | None = None, *, engines: bool) -> Bundle:
    """Open the bundle that made an index, so that a search need not name it.

    Args:
        folder: the index.
        model: the bundle's folder, where it is named all the same.
        engines: whether the towers will run in this process; otherwise the files that the index
            keeps suffice.

    Raises:
        SearchIndexError: there is no index, or its model repository is not found.
        BundleError: the bundle's files are damaged.
    """
    if model is not None:
        return Bundle(model)
    folder = Path(folder)
    if not engines and (folder / BUNDLE_FOLDER).is_dir():
        return Bundle(folder / BUNDLE_FOLDER)
    with closing(Catalogue(folder / CATALOGUE_FILE)) as catalogue:
        bundle_id = catalogue.meta("bundle_id") or ""
        places = list(dict.fromkeys(_places(folder, catalogue)))
    tried = []
    for place in places:
        if not (place / BUNDLE_FILE).is_file():
            tried.append(f"{place} (none there)")
            continue
        try:
            present = read_bundle_config(place).bundle_id
        except BundleError as error:
            tried.append(f"{place} ({error})")
            continue
        if present == bundle_id:
            return Bundle(place)
        tried.append(f"{place} (of bundle {present})")
    raise SearchIndexError(
        f"{folder}: the model repository that made this index (bundle {bundle_id}) was not found; "
        f"looked at {', '.join(tried) or 'no place, as none is recorded'}; give its folder with "
        "--model"
    )


def _copy_files(bundle: Bundle, target: Path) -> None:
    files = _small_files(bundle)
    if all(_same(file, target / file.name) for file in files):
        return
    with replacing(target, marker=BUNDLE_FILE) as draft:
        for file in files:
            shutil.copyfile(file, draft / file.name)
            sync(draft / file.name)


def _small_files(bundle: Bundle) -> list[Path]:
    return [bundle.folder / BUNDLE_FILE, *bundle.text_files()]


def _same(file: Path, copy: Path) -> bool:
    return copy.is_file() and copy.read_bytes() == file.read_bytes()


def _relative(target: Path, folder: Path) -> str:
    target = target.resolve()
    try:
        return Path(os.path.relpath(target, folder.resolve())).as_posix()
    except ValueError:  # Windows: the two lie on different drives
        return target.name


def _places(folder: Path, catalogue: Catalogue) -> Iterator[Path]:
    """Yield the places where the repository may lie, the likeliest first."""
    place, absolute = catalogue.meta(_PLACE), catalogue.meta(_ABSOLUTE_PLACE)
    folder = folder.resolve()
    name = ""
    if place:
        yield Path(os.path.normpath(folder / place))
        name = Path(place).name
    if absolute:
        yield Path(absolute)
        name = Path(absolute).name
    if name:
        yield folder.parent / name
        yield folder.parent.parent / name
        yield Path.cwd() / name
