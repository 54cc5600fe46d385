"""Search: a query to images, an image to images, and both to captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from .bundle import Bundle
from .editing import Captions, Fields, add_images, remove_images
from .embedder import Embedder, Embeddings, Towers
from .errors import SearchIndexError
from .forks import renew_after_fork
from .images import ImageSource
from .index import maintenance
from .index.bundle_files import open_bundle
from .index.maintenance import IndexInfo
from .index.matches import Matches
from .index.reader import Index
from .indexing.report import IndexReport
from .queries import EVENLY, check_question, mix, read_weights
from .ranking import Ranking, SearchOptions
from .towers.connection import ConnectionOptions
from .towers.onnx import OnnxTowers
from .towers.tls import ClientTls

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SearchClient:
    """Search one index; what is saved to it meanwhile is found by the next search.

    Threads may share one client: nothing of a call is kept in it, and searches run at the same
    time. `add` and `remove` of one client wait for each other.

    All searches take these options, by keyword:

    - `filter`: which images may be found, as text (`'folder ^= "2024/" and width > 1000'`) or dict;
    - `min_relevance`: leave out matches of less relevance, between 0 and 1; begin with 0.9;
    - `exact`: compare with every vector, whatever the kind of the index;
    - `nprobe`, `ef`: how much of the index is looked at, for the kinds that have them; by default
      what the index was tuned to.

    Args:
        index: the index's folder.
        model: the model repository that made the index. By default it is found where it was, or
            beside the index; through Triton none is needed.
        triton: `host:port` of a Triton server that runs the towers, `grpcs://host:port` for one
            with TLS; several of one bundle are joined by commas, or given as a sequence. None runs
            them in this process.
        tls: certificates for such a server.
        connection: timeouts, retries, headers and the like of connections to it.

    Raises:
        SearchIndexError: there is no index, another bundle made it, or its model repository is
            not found.
        BundleError: `model` is not a model repository.
        MissingExtraError: onnxruntime is not installed and `triton` is not given.
        ServerError: Triton does not answer, or serves another bundle.

    Example:
        >>> with SearchClient("my-index") as client:
        ...     for match in client.search("hai con chó trên bãi cỏ", k=5):
        ...         print(match.score, match.path)
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
        self._bundle = open_bundle(index, model, engines=triton is None)
        self._closed = False
        self._writing = Lock()
        self._index = Index(index, self._bundle)
        self._ranking = Ranking(self._index)
        try:
            self._embedder = open_embedder(self._bundle, triton, tls=tls, connection=connection)
        except BaseException:
            self._index.close()
            raise
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget a lock that a thread of the parent may have held; children have no such thread."""
        self._writing = Lock()

    def search(
        self,
        text: str | None = None,
        k: int = 10,
        *,
        image: ImageSource | None = None,
        weights: Sequence[float] = EVENLY,
        hybrid: bool = False,
        **options: Unpack[SearchOptions],
    ) -> Matches:
        """Find the `k` images that a query describes best.

        Args:
            text: a Vietnamese query.
            k: how many, at most.
            image: an image that they shall be like, besides or instead of the text.
            weights: how much the text and the image count, where both are given.
            hybrid: whether the text's words are looked for too, in captions, file names and
                columns, and both rankings are fused.
            options: as all searches.

        Raises:
            DataError: neither text nor image is given; the model's tokenizer knows nothing of the
                text, which may be empty; or `k`, the weights or an option cannot be.
            ImageError: `image` cannot be read.
        """
        check_question(text, image, hybrid=hybrid)
        read_weights(weights)
        vectors = self._embed(text, image, weights)
        return self._ranking.images(
            vectors,
            k,
            options,
            texts=None if text is None else [text],
            hybrid=hybrid,
            mixed=image is not None,
        )[0]

    def search_many(
        self,
        texts: Sequence[str],
        k: int = 10,
        *,
        hybrid: bool = False,
        **options: Unpack[SearchOptions],
    ) -> list[Matches]:
        """Find the `k` best images of each query: one batch through the towers, one search.

        Raises:
            DataError: as `search`, of any text.
        """
        if not len(texts):
            return []
        vectors = self.embed_texts(texts)
        return self._ranking.images(vectors, k, options, texts=texts, hybrid=hybrid)

    def search_by_image(
        self, image: ImageSource, k: int = 10, **options: Unpack[SearchOptions]
    ) -> Matches:
        """Find the `k` images most like `image`.

        Raises:
            ImageError: `image` cannot be read.
            DataError: `k` or an option cannot be.
        """
        return self._ranking.images(self.embed_images([image]), k, options)[0]

    def describe(
        self, image: ImageSource, k: int = 10, **options: Unpack[SearchOptions]
    ) -> Matches:
        """Find the `k` indexed captions that describe `image` best.

        Raises:
            ImageError: `image` cannot be read.
            DataError: `k` or an option cannot be.
        """
        return self._ranking.captions(self.embed_images([image]), k, options)[0]

    def similar_captions(self, text: str, k: int = 10, **options: Unpack[SearchOptions]) -> Matches:
        """Find the `k` indexed captions that say most nearly what `text` says.

        Raises:
            DataError: as `search`.
        """
        return self._ranking.captions(self.embed_texts([text]), k, options)[0]

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed queries to unit vectors FP32 `[N, D]`; as `Embedder.embed_texts`."""
        self._check_open()
        return self._embedder.embed_texts(texts)

    def embed_images(self, images: Sequence[ImageSource]) -> Embeddings:
        """Embed images to unit vectors FP32 `[N, D]`; as `Embedder.embed_images`."""
        self._check_open()
        return self._embedder.embed_images(images)

    def _embed(
        self, text: str | None, image: ImageSource | None, weights: Sequence[float]
    ) -> Embeddings:
        texts = self.embed_texts([text]) if text is not None else None
        images = self.embed_images([image]) if image is not None else None
        if texts is None or images is None:
            return texts if texts is not None else images  # type: ignore[return-value]
        return mix(texts, images, weights)

    def add(
        self,
        images: Iterable[str | Path],
        *,
        captions: Captions | None = None,
        fields: Fields | None = None,
    ) -> IndexReport:
        """Embed images and add them to the index; the next search finds them.

        Unchanged images are passed over, changed ones replaced. The index is open for writing
        during this call alone.

        Args:
            images: paths of files.
            captions: one caption, or a list of captions, an image.
            fields: columns of your own, a dict an image; filters know them.

        Returns:
            What was added, and what was skipped and why.

        Raises:
            DataError: there are not as many captions or fields as images, or a field has a value
                that its column cannot hold.
            IndexLocked: another writer is at work; the message says who.
            ServerError: Triton does not answer, or answers with an error.
        """
        self._check_open()
        with self._writing:
            report = add_images(
                self._index.folder, self._bundle, self._embedder, images, captions, fields
            )
        # A search moves on by itself; but while another thread reads the new state, it answers from
        # the one before, and the caller would miss what it has just added.
        self._index.refresh()
        return report

    def remove(self, paths: Iterable[str | Path]) -> int:
        """Remove images and their captions from the index; their files stay.

        Returns:
            How many images were removed.

        Raises:
            DataError: one is not in the index; nothing was removed.
            IndexLocked: another writer is at work; the message says who.
        """
        self._check_open()
        with self._writing:
            removed = remove_images(self._index.folder, self._bundle, paths)
        self._index.refresh()  # as after additions
        return removed

    def info(self) -> IndexInfo:
        """Tell what the index holds: images, captions, kinds, recall, bytes.

        Raises:
            SearchIndexError: the catalogue cannot be read, or the client is closed.
        """
        self._check_open()
        return maintenance.info(self._index.folder)

    def refresh(self) -> bool:
        """Move to the newest state of the index before a search does; others search on meanwhile.

        Returns:
            Whether anything was saved since the index was opened, searched or refreshed last.

        Raises:
            SearchIndexError: the new state is damaged or of another bundle, or the folder was
                deleted.
        """
        return self._index.refresh()

    def close(self) -> None:
        """Close the index and the towers; a second call does nothing."""
        self._closed = True
        self._index.close()
        self._embedder.close()

    def _check_open(self) -> None:
        if self._closed:
            raise SearchIndexError(f"{self._index.folder}: the client is closed; open a new one")

    def __enter__(self) -> SearchClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_embedder(
    bundle: Bundle,
    triton: str | Sequence[str] | None,
    *,
    tls: ClientTls | None = None,
    connection: ConnectionOptions | None = None,
    bulk: bool = False,
) -> Embedder:
    """Open an embedder that runs the towers in this process, or in the Triton at `triton`.

    Args:
        bundle: a model repository; through Triton, any folder with the small files of the bundle.
        triton: `[grpcs://]host:port`, or None; several are joined by commas, or a sequence.
        tls: certificates for it.
        connection: timeouts, retries, headers and the like.
        bulk: whether Triton lets the queries of others go first.
    """
    towers: Towers
    if triton is None:
        towers = OnnxTowers.from_repository(bundle)
    else:
        # tritonclient takes a third of a second to import; a local search does not need it.
        from .towers.triton import TritonTowers

        towers = TritonTowers(bundle, triton, tls=tls, options=connection, bulk=bulk)
    try:
        return Embedder(bundle, towers)
    except BaseException:
        towers.close()
        raise
