"""Switches a running Triton from one publication to the next without losing a request."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from vireo_client.errors import ServerError

from ..admin import Admin
from .publication import Publication
from .slots import Layout

log = logging.getLogger(__name__)

_SETTLE = 0.5
"""Seconds for requests that have chosen an ensemble but do not hold its engines yet."""


def switch(admin: Admin, old: Layout, new: Layout) -> None:
    """Load `new` beside `old`, make every name one of `new`, and unload `old`.

    Args:
        admin: the running Triton.
        old: the publication that it serves.
        new: the publication to serve, in the same folder.

    Raises:
        ServerError: `new` does not load; `old` is served as before. If a name cannot be restored,
            the message says so.
    """
    refuse_other_bundle_of_same_version(old.publication, new.publication)
    switched: list[str] = []
    try:
        new.write_slots()
        _load(admin, new.slots.values())
        _load(admin, new.trials.values())
        for name in new.names:
            new.write_name(name)
            switched.append(name)
            admin.load(name)
    except (ServerError, OSError) as error:  # OSError: the disk is full
        failed = "".join(_restore(admin, old, name) for name in switched if name in old.names)
        _drop(admin, new, [name for name in switched if name not in old.names])
        if switched:
            time.sleep(_SETTLE)
        _drop(admin, new, [*new.trials.values(), *new.slots.values()])
        raise ServerError(f"{error}{failed}") from error
    _drop(admin, new, new.trials.values())
    _drop(admin, old, [name for name in old.names if name not in new.names])
    time.sleep(_SETTLE)
    _drop(admin, old, old.slots.values())


def _load(admin: Admin, names: Iterable[str]) -> None:
    """Load models side by side, and wait for all of them."""
    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(admin.load, name) for name in names]
    for load in loads:
        load.result()


def _restore(admin: Admin, old: Layout, name: str) -> str:
    try:
        old.write_name(name)
        admin.load(name)
    except (ServerError, OSError) as error:
        return f"; the old {name} cannot be restored, so restart the server ({error})"
    return ""


def _drop(admin: Admin, layout: Layout, names: Iterable[str]) -> None:
    known = {entry["name"] for entry in admin.index() if entry.get("state") == "READY"}
    for name in names:
        try:
            if name in known:
                admin.unload(name)
        except ServerError as error:
            log.warning("%s cannot be unloaded: %s", name, error)
        layout.remove(name)


def refuse_other_bundle_of_same_version(old: Publication, new: Publication) -> None:
    """Refuse a version of another bundle: clients rely on the version that they checked.

    Raises:
        ServerError: a model of `new` has the version of one of `old`, and is of another bundle.
    """
    if old.bundle_id == new.bundle_id:
        return
    for model, version in new.versions.items():
        if old.versions.get(model) == version:
            raise ServerError(
                f"{model} version {version} is served as bundle {old.bundle_id}, and the new "
                f"publication calls bundle {new.bundle_id} version {version} too; publish it under "
                "another number, or restart the server"
            )
