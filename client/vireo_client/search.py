"""Search: a query to images, an image to images, an image to captions."""

from __future__ import annotations

from pathlib import Path

from .bundle import Bundle
from .embedder import Embedder
from .images import ImageSource
from .index.bundle_files import open_bundle
from .index.matches import Matches
from .index.reader import Index
from .towers.onnx import OnnxTowers
from .towers.tls import ClientTls


class SearchClient:
    """Search one index; what is saved to it meanwhile is found by the next search.

    Args:
        index: the index's folder.
        model: the model repository that made the index. By default it is found where it was, or
            beside the index; through Triton none is needed.
        triton: `host:port` of a Triton server that runs the towers, `grpcs://host:port` for one
            with TLS; None runs them in this process.
        tls: certificates for such a server.

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
        triton: str | None = None,
        tls: ClientTls | None = None,
    ) -> None:
        bundle = Bundle(model) if model is not None else open_bundle(index, engines=triton is None)
        self._index = Index(index, bundle)
        try:
            self._embedder = open_embedder(bundle, triton, tls=tls)
        except BaseException:
            self._index.close()
            raise

    def search(self, text: str, k: int = 10) -> Matches:
        """Find the `k` images that a query describes best.

        Raises:
            DataError: the model's tokenizer knows nothing of the query, which may be empty; or `k`
                is not a whole number from 1.
        """
        return self._index.search_images(self._embedder.embed_texts([text]), k)[0]

    def search_by_image(self, image: ImageSource, k: int = 10) -> Matches:
        """Find the `k` images most like `image`.

        Raises:
            ImageError: `image` cannot be read.
            DataError: `k` is not a whole number from 1.
        """
        return self._index.search_images(self._embedder.embed_images([image]), k)[0]

    def describe(self, image: ImageSource, k: int = 10) -> Matches:
        """Find the `k` indexed captions that describe `image` best.

        Raises:
            ImageError: `image` cannot be read.
            DataError: `k` is not a whole number from 1.
        """
        return self._index.search_captions(self._embedder.embed_images([image]), k)[0]

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
        """Close the index and the towers."""
        self._index.close()
        self._embedder.close()

    def __enter__(self) -> SearchClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_embedder(
    bundle: Bundle, triton: str | None, *, tls: ClientTls | None = None, bulk: bool = False
) -> Embedder:
    """Open an embedder that runs the towers in this process, or in the Triton at `triton`.

    Args:
        bundle: a model repository; through Triton, any folder with the small files of the bundle.
        triton: `[grpcs://]host:port`, or None.
        tls: certificates for it.
        bulk: whether Triton lets the queries of others go first.
    """
    if triton is None:
        return Embedder(bundle, OnnxTowers.from_repository(bundle))
    # tritonclient takes a third of a second to import; a local search does not need it.
    from .towers.triton import TritonTowers

    return Embedder(bundle, TritonTowers(bundle, triton, tls=tls, bulk=bulk))
