"""What `/v1/info` tells: model, index, what to filter by, jobs, limits and the state of it all."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from vireo_client import __version__
from vireo_client.bundle import Bundle
from vireo_client.errors import BundleError, SearchIndexError, ServerError, VireoError
from vireo_client.index import maintenance
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.facets import Facets
from vireo_client.index.maintenance import IndexInfo

from .choosing import label
from .library import Library, OpenedIndex
from .schemas import ColumnAnswer, FolderCount, IndexAnswer, InfoAnswer, ModelAnswer

if TYPE_CHECKING:
    from .state import State

Condition = Literal["ready", "indexing", "no-index", "no-model", "damaged", "unavailable"]


class Overview:
    """Reads what an index holds, once for each of its states."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = asyncio.Lock()
        self._of: tuple[OpenedIndex, int] | None = None
        self._read: tuple[IndexInfo, Facets] | None = None

    async def read(self) -> tuple[IndexInfo, Facets]:
        """Return what the index holds, and what there is to filter by.

        Raises:
            SearchIndexError: there is no index, or it is damaged.
        """
        async with self._lock:  # one walk through the rows for all who ask
            opened = await self._library.opened()
            of = opened, opened.index.generation
            if self._read is None or self._of != of:
                folder = self._library.settings.index
                self._read = await self._library.read(
                    lambda o: (maintenance.info(folder), o.index.facets())
                )
                self._of = of
            return self._read


async def describe(state: State) -> InfoAnswer:
    """Tell what the server serves; an index or a model that is missing is told as `state`."""
    settings, library = state.settings, state.library
    facets, index, model = Facets(), None, None
    error: BaseException | None = None
    try:
        held, facets = await state.overview.read()
        index = IndexAnswer(
            folder=str(settings.index),
            images=held.images,
            captions=held.captions,
            generation=held.generation,
            kind=held.kinds["images"],
            recall=held.recall.get("images"),
        )
        model = _model((await library.opened()).bundle)
        await library.embedder()
    except VireoError as caught:
        error = caught
    condition = _condition(error, index is not None, state)
    limits = asdict(settings.limits)
    return InfoAnswer(
        version=__version__,
        model=model,
        index=index,
        engine="in process" if settings.triton is None else "triton",
        state=condition,
        detail=None if error is None else str(error),
        columns=[
            ColumnAnswer(name=c.name, type=c.type, values=None if c.values is None else [*c.values])
            for c in facets.columns
        ],
        cameras=[FolderCount(name=name, images=n) for name, n in facets.cameras.items()],
        folders=[FolderCount(name=name, images=n) for name, n in facets.folders.items()],
        date_range=[facets.first_date, facets.last_date or facets.first_date]
        if facets.first_date
        else None,
        roots=label(state.roots),
        limits=limits,
        jobs=[job.answer() for job in state.jobs.all()],
        key_required=bool(settings.keys),
    )


def _model(bundle: Bundle) -> ModelAnswer:
    return ModelAnswer(
        name=model_name(bundle), id=bundle.bundle_id, dim=bundle.config.embedding_dim
    )


def model_name(bundle: Bundle) -> str:
    """Return a name of the model for people: the encoders that it was made of."""
    model = bundle.config.model
    parts = (model.get(key) for key in ("source", "text", "image"))
    source, text, image = (part if isinstance(part, dict) else {} for part in parts)
    if source.get("name"):
        return str(source["name"])
    names = [text.get("name") or text.get("kind"), image.get("name")]
    return " + ".join(str(name) for name in names if name) or bundle.bundle_id


def _condition(error: BaseException | None, has_index: bool, state: State) -> Condition:
    if state.jobs.is_running():
        return "indexing"
    if error is None:
        return "ready"
    if isinstance(error, ServerError):
        return "unavailable"
    if not (state.settings.index / CATALOGUE_FILE).is_file():
        return "no-index"
    if has_index or isinstance(error, BundleError):
        return "no-model"
    return "damaged" if isinstance(error, SearchIndexError) else "unavailable"
