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
"""Seconds for requests that have chosen an ensemble but not yet taken hold of its engines."""


def switch(admin: Admin, old: Layout, new: Layout) -> None:
    """Loads `new` beside `old`, turns to it, and drops `old`.

    Args:
        admin: the running Triton.
        old: what it serves.
        new: what it shall serve, in the same folder.

    Raises:
        ServerError: `new` does not load; `old` is served as before. If even a way back fails, the
            message says so.
    """
    _refuse_other_vectors_under_one_number(old.publication, new.publication)
    turned: list[str] = []
    try:
        new.write_slots()
        _load(admin, new.slots.values())
        _load(admin, new.trials.values())
        for name in new.names:
            new.write_name(name)
            turned.append(name)
            admin.load(name)
    except (ServerError, OSError) as error:  # OSError: the disk is full
        failed = "".join(_turn_back(admin, old, name) for name in turned if name in old.names)
        _drop(admin, new, [name for name in turned if name not in old.names])
        if turned:
            time.sleep(_SETTLE)
        _drop(admin, new, [*new.trials.values(), *new.slots.values()])
        raise ServerError(f"{error}{failed}") from error
    _drop(admin, new, new.trials.values())
    _drop(admin, old, [name for name in old.names if name not in new.names])
    time.sleep(_SETTLE)
    _drop(admin, old, old.slots.values())


def _load(admin: Admin, names: Iterable[str]) -> None:
    """Loads models side by side, and waits for all of them."""
    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(admin.load, name) for name in names]
    for load in loads:
        load.result()


def _turn_back(admin: Admin, old: Layout, name: str) -> str:
    try:
        old.write_name(name)
        admin.load(name)
    except (ServerError, OSError) as error:
        return f"; the old {name} cannot be put back, restart the server ({error})"
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


def _refuse_other_vectors_under_one_number(old: Publication, new: Publication) -> None:
    """Clients ask for the version that they checked; it must not become another bundle's."""
    if old.bundle_id == new.bundle_id:
        return
    for model, version in new.versions.items():
        if old.versions.get(model) == version:
            raise ServerError(
                f"{model} version {version} is served as bundle {old.bundle_id}, and the new "
                f"publication calls bundle {new.bundle_id} version {version} too; publish it under "
                "another number, or restart the server"
            )
