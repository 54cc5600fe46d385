"""Search in an asyncio program: the verbs of `SearchClient`, to be awaited."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .async_embedder import AsyncEmbedder, ThreadedEmbedder, TowersEmbedder
from .bundle import Bundle
from .editing import Captions, Fields, add_images, remove_images
from .embedder import Embedder, Embeddings
from .errors import SearchIndexError
from .images import ImageSource
from .index import maintenance
from .index.bundle_files import open_bundle
from .index.maintenance import IndexInfo
from .index.matches import Matches
from .index.reader import Index
from .indexing.report import IndexReport
from .queries import EVENLY, check_question, mix, read_weights
from .ranking import Ranking, SearchOptions, is_plain
from .search import open_embedder
from .towers.connection import ConnectionOptions
from .towers.tls import ClientTls

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

_SHORT = 0.001
"""Seconds for which a search may hold up the event loop. To hand it to a thread takes 0.03 ms where
the loop is idle; where it is busy, the answer waits for a turn of it, 5 ms or more."""


class AsyncSearchClient:
    """Search one index from an asyncio program, with the verbs and options of `SearchClient`.

    Tasks of one event loop may share one client. It opens at its first use, or by `async with`.
    Through Triton, embedding keeps no thread, and the texts of tasks that ask at the same time
    travel together. In this process, embedding runs in threads of asyncio's. A search that takes
    less than a millisecond runs in the loop itself, a longer one in a thread.

    A task may be cancelled at any time, by `asyncio.wait_for(client.search(...), 0.5)` too: its
    request to Triton is cancelled; work that runs in a thread goes on to its end unheard. `add` and
    `remove` of one client wait for each other.

    Args:
        index: the index's folder.
        model: the model repository that made the index; by default it is found.
        triton: `[grpcs://]host:port` of a Triton server; several of one bundle are joined by
            commas, or given as a sequence. None runs the towers in this process.
        tls: certificates for such a server.
        connection: timeouts, retries, headers and the like of connections to it.

    Raises:
        VireoError: as `SearchClient`; at the first use, not when the object is made.

    Example:
        >>> async with AsyncSearchClient("my-index", triton="127.0.0.1:8001") as client:
        ...     dogs, cats = await asyncio.gather(client.search("chó"), client.search("mèo"))
    """

    def __init__(
        self,
        index: str | Path,
        *,
        model: str | Path | None = None,
        triton: str | Sequence[str] | None = None,
        tls: ClientTls | None = None,
        connection: ConnectionOptions | None = None,
    ) -> None:
        self._folder = Path(index)
        self._model, self._triton = model, triton
        self._tls, self._connection = tls, connection
        self._writing = asyncio.Lock()
        self._closed = False
        self._opened: asyncio.Task[_Opened] | None = None
        # What a query of the last search took.
        self._seconds = math.inf

    async def search(
        self,
        text: str | None = None,
        k: int = 10,
        *,
        image: ImageSource | None = None,
        weights: Sequence[float] = EVENLY,
        hybrid: bool = False,
        **options: Unpack[SearchOptions],
    ) -> Matches:
        """Find the `k` images that a query describes best; as `SearchClient.search`."""
        check_question(text, image, hybrid=hybrid)
        read_weights(weights)
        vectors = await self._embed(text, image, weights)
        texts = None if text is None else [text]
        mixed = image is not None
        found = await self._images(vectors, k, options, texts, hybrid=hybrid, mixed=mixed)
        return found[0]

    async def search_many(
        self,
        texts: Sequence[str],
        k: int = 10,
        *,
        hybrid: bool = False,
        **options: Unpack[SearchOptions],
    ) -> list[Matches]:
        """Find the `k` best images of each query; as `SearchClient.search_many`."""
        if not len(texts):
            return []
        vectors = await self.embed_texts(texts)
        return await self._images(vectors, k, options, texts, hybrid=hybrid)

    async def search_by_image(
        self, image: ImageSource, k: int = 10, **options: Unpack[SearchOptions]
    ) -> Matches:
        """Find the `k` images most like `image`; as `SearchClient.search_by_image`."""
        return (await self._images(await self.embed_images([image]), k, options))[0]

    async def describe(
        self, image: ImageSource, k: int = 10, **options: Unpack[SearchOptions]
    ) -> Matches:
        """Find the `k` captions that describe `image` best; as `SearchClient.describe`."""
        return (await self._captions(await self.embed_images([image]), k, options))[0]

    async def similar_captions(
        self, text: str, k: int = 10, **options: Unpack[SearchOptions]
    ) -> Matches:
        """Find the `k` captions nearest to `text`; as `SearchClient.similar_captions`."""
        return (await self._captions(await self.embed_texts([text]), k, options))[0]

    async def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed queries to unit vectors FP32 `[N, D]`; as `Embedder.embed_texts`."""
        return await (await self._open()).embedder.embed_texts(texts)

    async def embed_images(self, images: Sequence[ImageSource]) -> Embeddings:
        """Embed images to unit vectors FP32 `[N, D]`; as `Embedder.embed_images`."""
        return await (await self._open()).embedder.embed_images(images)

    async def _embed(
        self, text: str | None, image: ImageSource | None, weights: Sequence[float]
    ) -> Embeddings:
        if text is None:
            return await self.embed_images([image])  # type: ignore[list-item]  # one is given
        if image is None:
            return await self.embed_texts([text])
        texts, images = await asyncio.gather(self.embed_texts([text]), self.embed_images([image]))
        return mix(texts, images, weights)

    async def add(
        self,
        images: Iterable[str | Path],
        *,
        captions: Captions | None = None,
        fields: Fields | None = None,
    ) -> IndexReport:
        """Embed images and add them to the index; as `SearchClient.add`.

        Through Triton, these requests let the queries of others go first.
        """
        opened = await self._open()

        def add() -> IndexReport:
            with ExitStack() as closing:
                embedder = opened.local or closing.enter_context(self._open_bulk(opened.bundle))
                report = add_images(self._folder, opened.bundle, embedder, images, captions, fields)
            opened.index.refresh()  # so that the caller finds what it added
            return report

        async with self._writing:
            return await asyncio.to_thread(add)

    def _open_bulk(self, bundle: Bundle) -> Embedder:
        return open_embedder(
            bundle, self._triton, tls=self._tls, connection=self._connection, bulk=True
        )

    async def remove(self, paths: Iterable[str | Path]) -> int:
        """Remove images and their captions from the index; as `SearchClient.remove`."""
        opened = await self._open()

        def remove() -> int:
            removed = remove_images(self._folder, opened.bundle, paths)
            opened.index.refresh()
            return removed

        async with self._writing:
            return await asyncio.to_thread(remove)

    async def info(self) -> IndexInfo:
        """Tell what the index holds; as `SearchClient.info`."""
        await self._open()
        return await asyncio.to_thread(maintenance.info, self._folder)

    async def refresh(self) -> bool:
        """Move to the newest state of the index in a thread; as `SearchClient.refresh`."""
        return await asyncio.to_thread((await self._open()).index.refresh)

    async def close(self) -> None:
        """Close the index and the towers; a second call does nothing."""
        self._closed = True
        opening, self._opened = self._opened, None
        if opening is None:
            return
        await asyncio.wait([opening])  # what another task is opening is closed too
        if not _failed(opening):
            opened = opening.result()
            opened.index.close()
            await opened.embedder.close()

    async def __aenter__(self) -> AsyncSearchClient:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _images(
        self,
        queries: Embeddings,
        k: int,
        options: SearchOptions,
        texts: Sequence[str] | None = None,
        *,
        hybrid: bool = False,
        mixed: bool = False,
    ) -> list[Matches]:
        ranking = (await self._open()).ranking
        return await self._run(
            lambda: ranking.images(queries, k, options, texts=texts, hybrid=hybrid, mixed=mixed),
            len(queries),
            not hybrid and is_plain(options),
        )

    async def _captions(self, queries: Embeddings, k: int, options: SearchOptions) -> list[Matches]:
        ranking = (await self._open()).ranking
        return await self._run(
            lambda: ranking.captions(queries, k, options), len(queries), is_plain(options)
        )

    async def _run(self, search: Callable[[], T], queries: int, plain: bool) -> T:
        """Run a search in the loop if it will be short, judged by the last one; or in a thread."""

        def timed() -> T:
            # The time that this thread computed, not what it waited for others.
            start = time.thread_time()
            found = search()
            self._seconds = (time.thread_time() - start) / queries
            return found

        if plain and self._seconds * queries < _SHORT:
            return timed()
        return await asyncio.to_thread(timed if plain else search)

    async def _open(self) -> _Opened:
        if self._closed:
            raise SearchIndexError(f"{self._folder}: the client is closed; open a new one")
        if self._opened is None or _failed(self._opened):
            self._opened = asyncio.get_running_loop().create_task(self._open_anew())
        if self._opened.done():
            return self._opened.result()
        # The task that waits may be cancelled; others may wait for the same opening.
        return await asyncio.shield(self._opened)

    async def _open_anew(self) -> _Opened:
        bundle, index = await asyncio.to_thread(self._open_index)
        try:
            if self._triton is None:
                local = await asyncio.to_thread(open_embedder, bundle, None)
                return _Opened(bundle, index, Ranking(index), ThreadedEmbedder(local), local)
            # tritonclient takes a third of a second to import; a local search does not need it.
            from .towers.aio import AsyncTritonTowers

            towers = AsyncTritonTowers(
                bundle, self._triton, tls=self._tls, options=self._connection
            )
            try:
                await towers.connect()
                embedder = await asyncio.to_thread(TowersEmbedder, bundle, towers)
            except BaseException:
                await towers.close()
                raise
            return _Opened(bundle, index, Ranking(index), embedder)
        except BaseException:
            index.close()
            raise

    def _open_index(self) -> tuple[Bundle, Index]:
        bundle = open_bundle(self._folder, self._model, engines=self._triton is None)
        return bundle, Index(self._folder, bundle)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a client opens."""

    bundle: Bundle
    index: Index
    ranking: Ranking
    embedder: AsyncEmbedder
    local: Embedder | None = None
    """What embeds in this process, without Triton."""


def _failed(opening: asyncio.Task[_Opened]) -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)
