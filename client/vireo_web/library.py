"""The index that is served and the towers that embed for it: opened at need, and opened anew.

Each is opened at its first use. Where that fails, the next request tries again, so that a server
that starts before its index or its Triton is there serves as soon as they are. An index that was
replaced by another bundle's is opened anew, with that bundle.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from vireo_client.async_embedder import TowersEmbedder
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder, Embeddings
from vireo_client.errors import BundleError, DataError, SearchIndexError, ServerTimeout, VireoError
from vireo_client.index.bundle_files import BUNDLE_FOLDER, open_bundle
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.reader import Index
from vireo_client.ranking import Ranking
from vireo_client.search import open_embedder
from vireo_client.towers.joined import JoinedTowers

from .kept import Kept
from .problems import ReplacedError
from .settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REFRESH = 1.0
"""Seconds between two looks whether the index was saved."""
_CHECK = 5.0
"""Seconds in which a check must have embedded a text."""
_UPLOADS = 2
"""Uploads that are decoded and embedded at the same time; each may take 360 MB."""
_SEARCHES = 4
"""Searches that run at the same time; FAISS uses all cores for a larger one."""


@dataclass(frozen=True, slots=True)
class OpenedIndex:
    """An index that is open."""

    index: Index
    ranking: Ranking
    bundle: Bundle


class Library:
    """One index folder with its towers, for the tasks of one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.decoding = asyncio.Semaphore(_UPLOADS)
        self.searching = ThreadPoolExecutor(_SEARCHES, thread_name_prefix="vireo-search")
        self._index: Kept[OpenedIndex] = Kept(self._open_index)
        self._embedder: Kept[TowersEmbedder] = Kept(self._open_embedder)
        self._local: Embedder | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to open all, before the first request, and to look for new states of the index."""
        self._tasks = [asyncio.create_task(self._warm()), asyncio.create_task(self._watch())]

    async def opened(self) -> OpenedIndex:
        """Return the index.

        Raises:
            SearchIndexError: there is none, it is damaged, or another bundle made it.
        """
        return await self._index.get()

    async def embedder(self) -> TowersEmbedder:
        """Return what embeds.

        Raises:
            VireoError: the model is not found, or Triton does not answer.
        """
        embedder = await self._embedder.get()
        index = self._index.opened()
        if index is None or index.bundle.bundle_id == embedder.bundle.bundle_id:
            return embedder
        # The index was replaced by one of another bundle.
        if self._embedder.opened() is embedder:
            await self._close_embedder()
        return await self._embedder.get()

    async def embed_uploads(self, images: Sequence[bytes]) -> Embeddings:
        """Embed images that callers sent, of a few callers at a time, FP32 `[N, D]`.

        Raises:
            VireoError: as `embedder`, or one is no image.
        """
        embedder = await self.embedder()
        async with self.decoding:
            return await embedder.embed_images(images)

    async def find(
        self,
        embed: Callable[[], Awaitable[Embeddings]],
        work: Callable[[OpenedIndex, Embeddings], T],
    ) -> T:
        """Embed a query and search with it; both anew if another bundle's index took its place.

        Raises:
            VireoError: as `embedder` and `read`.
        """
        for _ in range(2):
            bundle_id = (await self.opened()).bundle.bundle_id
            vectors = await embed()
            try:
                return await self.read(partial(_searched, work, vectors), bundle_id)
            except ReplacedError as error:
                replaced = error
        raise replaced

    async def read(self, work: Callable[[OpenedIndex], T], bundle_id: str | None = None) -> T:
        """Run what reads the index in a thread; an index that was replaced is opened anew.

        Args:
            work: what reads it; it may run twice.
            bundle_id: the bundle that embedded what is searched for, if anything is.

        Raises:
            SearchIndexError: there is no index any more, it is damaged, or another bundle made it.
        """

        def checked(opened: OpenedIndex) -> T:
            if bundle_id not in (None, opened.bundle.bundle_id):
                raise ReplacedError(f"{opened.index.folder}: was replaced just now; try again")
            return work(opened)

        loop = asyncio.get_running_loop()
        opened = await self.opened()
        try:
            return await loop.run_in_executor(self.searching, checked, opened)
        except SearchIndexError:
            if self._index.opened() is opened and not await self._was_left(opened):
                raise
        return await loop.run_in_executor(self.searching, checked, await self.opened())

    async def _was_left(self, opened: OpenedIndex) -> bool:
        """Return whether an index cannot be followed any more, and was closed for that."""
        try:
            await asyncio.to_thread(opened.index.refresh)
        except SearchIndexError as error:
            if self._index.opened() is opened:
                self._index.forget()
                logger.warning("%s", error)
                await asyncio.to_thread(opened.index.close)
            return True
        return False

    async def _close_embedder(self) -> None:
        embedder = self._embedder.forget()
        local, self._local = self._local, None
        if embedder is not None:
            await embedder.close()
        if local is not None:
            await asyncio.to_thread(local.close)

    async def check(self) -> None:
        """Check that searches can be answered now, by embedding a short text.

        Raises:
            VireoError: they cannot; the message says why.
        """
        await self.opened()
        embedder = await self.embedder()
        try:
            await asyncio.wait_for(embedder.embed_texts(["a"]), _CHECK)
        except DataError:  # a tokenizer may know nothing of it, and then it works
            pass
        except asyncio.TimeoutError:
            raise ServerTimeout(f"nothing was embedded within {_CHECK:g} s; try again") from None

    def retry(self) -> None:
        """Try again at the next request to open what could not be opened; for any thread."""
        self._index.retry()
        self._embedder.retry()

    def find_bundle(self) -> Bundle:
        """Open the bundle that embeds: the one that was given, or the one that made the index.

        Raises:
            VireoError: none is found.
        """
        settings = self.settings
        in_process = settings.triton is None
        if settings.model is None and not (settings.index / CATALOGUE_FILE).is_file():
            raise BundleError(
                f"{settings.index}: no index here, and no model to make one; start again with "
                "--model MODEL_REPOSITORY"
            )
        return open_bundle(settings.index, settings.model, engines=in_process)

    def open_bulk_embedder(self) -> Embedder:
        """Open an embedder for many images, beside the one of the searches.

        Raises:
            VireoError: the model is not found, or Triton does not answer.
        """
        settings = self.settings
        return open_embedder(
            self.find_bundle(),
            settings.triton,
            tls=settings.tls,
            connection=settings.connection,
            bulk=True,
        )

    async def _open_index(self) -> OpenedIndex:
        return await asyncio.to_thread(self._open_files)

    def _open_files(self) -> OpenedIndex:
        settings = self.settings
        # The small files that an index keeps suffice to look at it, where its model is missing.
        own = (settings.index / BUNDLE_FOLDER).is_dir()
        bundle = open_bundle(settings.index, settings.model, engines=not own)
        index = Index(settings.index, bundle)
        return OpenedIndex(index, Ranking(index), bundle)

    async def _open_embedder(self) -> TowersEmbedder:
        settings = self.settings
        if settings.triton is None:
            return await self._open_local()
        bundle = await asyncio.to_thread(self.find_bundle)
        # tritonclient takes a third of a second to import; without Triton it is not needed.
        from vireo_client.towers.aio import AsyncTritonTowers

        towers = AsyncTritonTowers(
            bundle, settings.triton, tls=settings.tls, options=settings.connection
        )
        try:
            await towers.connect()
            return await asyncio.to_thread(TowersEmbedder, bundle, towers)
        except BaseException:
            await towers.close()
            raise

    async def _open_local(self) -> TowersEmbedder:
        def load() -> Embedder:
            return open_embedder(self.find_bundle(), None)

        local = await asyncio.to_thread(load)
        self._local = local
        return TowersEmbedder(local.bundle, JoinedTowers(local.towers), text_path=local.text_path)

    async def _warm(self) -> None:
        try:
            await self.check()
        except VireoError as error:  # each request tries again, and tells it
            logger.info("not ready yet (%s)", error)

    async def _watch(self) -> None:
        """Move to each new state of the index, so that no search waits while it is read."""
        while True:
            await asyncio.sleep(_REFRESH)
            if (opened := self._index.opened()) is not None:
                await self._was_left(opened)

    async def close(self) -> None:
        """Close the index and the towers."""
        for task in self._tasks:
            task.cancel()
        await self._index.settle()
        await self._embedder.settle()
        if (opened := self._index.forget()) is not None:
            await asyncio.to_thread(opened.index.close)
        await self._close_embedder()
        await asyncio.to_thread(self.searching.shutdown)


def _searched(
    work: Callable[[OpenedIndex, Embeddings], T], vectors: Embeddings, opened: OpenedIndex
) -> T:
    return work(opened, vectors)
