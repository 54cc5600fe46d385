"""What `/v1/info` tells: model, index, what to filter by, jobs, limits and the state of it all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from vireo_client import __version__
from vireo_client.bundle import Bundle
from vireo_client.errors import BundleError, SearchIndexError, ServerError, VireoError
from vireo_client.index import maintenance
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.facets import Facets
from vireo_client.index.maintenance import IndexInfo
from vireo_client.printing import printable

from .choosing import label
from .jobs import Jobs
from .library import Library, OpenedIndex
from .schemas import (
    ColumnAnswer,
    Condition,
    FolderCount,
    IndexAnswer,
    InfoAnswer,
    ModelAnswer,
)


class Overview:
    """Tells what is served; what an index holds is read once for each of its states."""

    def __init__(self, library: Library, jobs: Jobs, roots: Sequence[Path]) -> None:
        self._library, self._jobs, self._roots = library, jobs, roots
        self._settings = library.settings
        self._lock = asyncio.Lock()
        self._of: tuple[OpenedIndex, int] | None = None
        self._held: tuple[IndexInfo, Facets] | None = None

    async def _read(self) -> tuple[IndexInfo, Facets]:
        async with self._lock:  # one walk through the rows for all who ask
            await self._library.read(lambda o: o.index.refresh())
            opened = await self._library.opened()
            of = opened, opened.index.generation
            if self._held is None or self._of != of:
                folder = self._settings.index
                self._held = await asyncio.to_thread(
                    lambda: (maintenance.info(folder), opened.index.facets())
                )
                self._of = of
            return self._held

    async def answer(self) -> InfoAnswer:
        """Tell what is served; an index or a model that is missing is told as `state`."""
        indexing = self._jobs.is_running()  # asked first: what follows is no older
        facets, index, model = Facets(), None, None
        error: VireoError | None = None
        try:
            held, facets = await self._read()
            index = IndexAnswer(
                folder=printable(self._settings.index),
                images=held.images,
                captions=held.captions,
                generation=held.generation,
                kind=held.kinds["images"],
                recall=held.recall.get("images"),
            )
            model = _model((await self._library.opened()).bundle)
            await self._library.check()
        except VireoError as caught:
            error = caught
        dates = facets.first_date, facets.last_date
        return InfoAnswer(
            version=__version__,
            model=model,
            index=index,
            engine="in process" if self._settings.triton is None else "triton",
            state="indexing" if indexing else self._condition(error, has_index=index is not None),
            detail=None if error is None else printable(error),
            columns=[
                ColumnAnswer(
                    name=c.name, type=c.type, values=None if c.values is None else [*c.values]
                )
                for c in facets.columns
            ],
            cameras=[FolderCount(name=name, images=n) for name, n in facets.cameras.items()],
            folders=[FolderCount(name=name, images=n) for name, n in facets.folders.items()],
            date_range=[date for date in dates if date] or None,
            roots=label(self._roots),
            limits=asdict(self._settings.limits),
            jobs=[job.answer() for job in self._jobs.all()],
            key_required=bool(self._settings.keys),
        )

    def _condition(self, error: VireoError | None, *, has_index: bool) -> Condition:
        if error is None:
            return "ready"
        if isinstance(error, ServerError):
            return "unavailable"
        if not (self._settings.index / CATALOGUE_FILE).is_file():
            return "no-index"
        if has_index or isinstance(error, BundleError):
            return "no-model"
        return "damaged" if isinstance(error, SearchIndexError) else "unavailable"


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
