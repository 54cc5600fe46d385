"""Rollback: going back to a version of a model repository that was kept."""

from __future__ import annotations

import shutil
from pathlib import Path

from vireo_client.errors import BundleError
from vireo_client.files import replacing
from vireo_client.repository import (
    ALL_MODELS,
    CONFIG_FILE,
    PARITY_FILE,
    VERSIONS_FILE,
    Versions,
    read_versions,
    release_folder,
    write_versions,
)

from .link import link
from .lock import locked


def rollback(repository: Path, to: int | None = None) -> int:
    """Make another kept version the current one, in one step; all versions stay.

    A running server takes it over when it reloads.

    Args:
        repository: a model repository.
        to: the version; by default the newest that is older than the current one.

    Returns:
        The version that is current now.

    Raises:
        BundleError: the version is not kept, or there is no older one.
    """
    if not read_versions(repository).kept:
        raise BundleError(f"{repository}: no versions here; `vireo export` writes and keeps them")
    repository = repository.resolve()
    with locked(repository):
        return _rollback(repository, to)


def _rollback(repository: Path, to: int | None) -> int:
    versions = read_versions(repository)
    kept = ", ".join(map(str, versions.kept))
    if to is None:
        older = [version for version in versions.kept if version < versions.current]
        if not older:
            raise BundleError(
                f"{repository}: version {versions.current} is in use and no older one is kept "
                f"(kept: {kept}); `vireo export --keep` sets how many are"
            )
        to = max(older)
    elif to == versions.current:
        raise BundleError(f"{repository}: version {to} is in use already (kept: {kept})")
    elif to not in versions.kept:
        raise BundleError(f"{repository}: no version {to} (kept: {kept})")
    release = release_folder(repository, to)
    if not release.is_dir():
        raise BundleError(f"{release}: is missing; choose another version (kept: {kept})")
    with replacing(repository, marker=PARITY_FILE) as draft:
        left = release_folder(repository, versions.current)
        for entry in repository.iterdir():
            if entry.is_dir():
                shutil.copytree(entry, draft / entry.name, copy_function=link)
            elif entry.name != VERSIONS_FILE and not (left / entry.name).exists():
                link(entry, draft / entry.name)  # of no version: a timing cache, for example
        for model in ALL_MODELS:
            config = draft / model / CONFIG_FILE
            # A hard link: writing to it would change the old repository too.
            config.unlink(missing_ok=True)
            version = draft / model / str(to)
            if version.is_dir():  # not every target has every model
                shutil.copyfile(version / CONFIG_FILE, config)
        for file in release.iterdir():
            (draft / file.name).unlink(missing_ok=True)
            link(file, draft / file.name)
        write_versions(draft, Versions(to, versions.kept))
    return to
