"""Text to pictures, picture to pictures, picture to sentences."""

from __future__ import annotations

from pathlib import Path

from .bundle import Bundle
from .embedder import Embedder
from .images import ImageSource
from .index.reader import Index, Match, recorded_model
from .towers.onnx import OnnxTowers
from .towers.tls import ClientTls


class SearchClient:
    """Searches one index.

    Args:
        index: the index's folder.
        model: the model repository that made it; by default the one the index was written with.
        triton: `host:port` of a Triton server that runs the towers, `grpcs://host:port` where it
            speaks TLS; None runs them in this process.
        tls: certificates for such a server.

    Raises:
        SearchIndexError: no index there, or one of another bundle.
        BundleError: `model` is no model repository.
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
        bundle = Bundle(model if model is not None else recorded_model(index))
        self._index = Index(index, bundle)
        try:
            self._embedder = open_embedder(bundle, triton, tls=tls)
        except BaseException:
            self._index.close()
            raise

    def search(self, text: str, k: int = 10) -> list[Match]:
        """Finds the `k` pictures that a sentence describes best."""
        return self._index.search_images(self._embedder.embed_texts([text]), k)[0]

    def search_by_image(self, image: ImageSource, k: int = 10) -> list[Match]:
        """Finds the `k` pictures most like `image`.

        Raises:
            ImageError: `image` cannot be read.
        """
        return self._index.search_images(self._embedder.embed_images([image]), k)[0]

    def describe(self, image: ImageSource, k: int = 10) -> list[Match]:
        """Finds the `k` indexed sentences that describe `image` best.

        Raises:
            ImageError: `image` cannot be read.
        """
        return self._index.search_captions(self._embedder.embed_images([image]), k)[0]

    def close(self) -> None:
        """Closes the index and the towers."""
        self._index.close()
        self._embedder.close()

    def __enter__(self) -> SearchClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_embedder(
    bundle: Bundle, triton: str | None, *, tls: ClientTls | None = None, bulk: bool = False
) -> Embedder:
    """Embeds in this process, or through the Triton at `triton` (`host:port`).

    There, `bulk` lets the queries of others go first.
    """
    if triton is None:
        return Embedder(bundle, OnnxTowers.from_repository(bundle))
    # tritonclient takes a third of a second to import; a local search does not need it.
    from .towers.triton import TritonTowers

    return Embedder(bundle, TritonTowers(bundle, triton, tls=tls, bulk=bulk))
