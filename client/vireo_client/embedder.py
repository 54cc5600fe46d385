"""Embeds texts and images: one interface over all that can run the two towers.

`Embedder` owns the parts that must be the same everywhere: preprocessing, buckets, batch sizes and
the order of results. A `Towers` only runs a batch of ids or pixels. Three exist: `OnnxTowers` (in
process), `TritonTowers` (gRPC), and training's `TorchTowers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .captions import Skip
from .cores import usable_cores
from .errors import ImageError, VireoError
from .forks import renew_after_fork
from .images import ImageSource, load_pixels
from .overlap import batched, map_ahead
from .queries import check_images
from .text.pipeline import TextPath

Embeddings = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class Towers(Protocol):
    """Runs the two towers on batches that are preprocessed.

    Towers that gain from several batches at once say how many in `batches_in_flight`; others get
    one after the other.
    """

    name: str

    @property
    def max_batch_size(self) -> int:
        """The largest batch that is taken."""
        ...

    def encode_text(self, input_ids: npt.NDArray[np.int32]) -> Embeddings:
        """Embed ids INT32 `[N, L]`, L a bucket of the bundle, to unit vectors FP32 `[N, D]`."""
        ...

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> Embeddings:
        """Embed pixels UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        ...

    def close(self) -> None:
        """Free memory, threads and connections; a second call does nothing."""
        ...


class ImageBatch(NamedTuple):
    """One embedded batch: the images' positions in the call, their embeddings, and the skips."""

    positions: list[int]
    embeddings: Embeddings
    skipped: list[Skip]


class Embedder:
    """Embeds texts and images with the towers of one bundle.

    Args:
        bundle: the settings by which texts and images are preprocessed.
        towers: the towers of the same bundle.
        decode_threads: threads that decode images (Pillow releases the interpreter lock); by
            default as many as this process has cores.
    """

    def __init__(
        self, bundle: Bundle, towers: Towers, *, decode_threads: int | None = None
    ) -> None:
        self.bundle = bundle
        self.towers = towers
        self.text_path = TextPath.from_bundle(bundle)
        self.batches_in_flight: int = getattr(towers, "batches_in_flight", 1)
        """The number of batches of images that the towers get before they answer the first."""
        self._decode_threads = decode_threads or usable_cores()
        self._closed = False
        self._open_pools()
        renew_after_fork(self)

    def _open_pools(self) -> None:
        # A pool starts its threads as they are needed: none for a client that embeds texts only.
        self._decoding = ThreadPoolExecutor(self._decode_threads, thread_name_prefix="vireo-decode")
        self._embedding = ThreadPoolExecutor(
            self.batches_in_flight, thread_name_prefix="vireo-embed"
        )

    def after_fork(self) -> None:
        """Make the threads anew in a forked child."""
        self._open_pools()

    @property
    def dim(self) -> int:
        """The embedding size D."""
        return self.bundle.config.embedding_dim

    def embed_texts(self, texts: Sequence[str], *, allow_unknown: bool = False) -> Embeddings:
        """Embed texts: captions or queries.

        Args:
            texts: the texts.
            allow_unknown: whether a text of which the tokenizer knows nothing, an empty one too,
                gets the one embedding of all such texts. One caption among many may be such a text;
                a query is not.

        Returns:
            FP32 `[N, D]`, unit length, in the order of `texts`.

        Raises:
            DataError: `texts` is not a sequence of strings, or the tokenizer knows nothing of one.
            ServerError: Triton does not answer, or answers with an error; the subclass says which.
            VireoError: the embedder was closed.
        """
        rows = self.text_path.ids(texts)
        if not allow_unknown:
            self.text_path.refuse_unknown(texts, rows)
        out = np.empty((len(texts), self.dim), dtype=np.float32)
        with self._not_closed():
            for positions, input_ids in self.text_path.tokenizer.pad(rows):
                for part in _slices(len(positions), self.towers.max_batch_size):
                    out[positions[part]] = self.towers.encode_text(input_ids[part])
        return out

    def embed_images(self, images: Sequence[ImageSource]) -> Embeddings:
        """Embed images, given as paths, encoded bytes, Pillow images or pixels UINT8 `[H, W, 3]`.

        Returns:
            FP32 `[N, D]`, unit length, in the order of `images`.

        Raises:
            ImageError: an image cannot be read; `embed_image_stream` skips such images instead.
            ServerError: Triton does not answer, or answers with an error; the subclass says which.
            VireoError: the embedder was closed.
        """
        check_images(images)
        out = np.empty((len(images), self.dim), dtype=np.float32)
        with self._not_closed():
            for batch in self.embed_image_stream(images):
                if batch.skipped:
                    raise ImageError(str(batch.skipped[0]))
                out[batch.positions] = batch.embeddings
        return out

    @contextmanager
    def _not_closed(self) -> Iterator[None]:
        """Turn what thread pools raise when another thread closes them into an error of ours."""
        try:
            yield
        except (RuntimeError, CancelledError) as error:
            if not self._closed:
                raise
            raise VireoError("this embedder was closed; open a new one") from error

    def embed_image_stream(
        self, images: Iterable[ImageSource], *, batch_size: int | None = None
    ) -> Iterator[ImageBatch]:
        """Embed any number of images, batch by batch, and skip those that cannot be read.

        The next batches are decoded while the towers run the present ones. Through Triton, several
        batches are in flight.
        """
        size = min(batch_size or self.towers.max_batch_size, self.towers.max_batch_size)
        decoded = map_ahead(
            self._decoding, self._decode, enumerate(images), size * (self.batches_in_flight + 1)
        )
        yield from map_ahead(
            self._embedding, self._embed, batched(decoded, size), self.batches_in_flight
        )

    def _decode(self, item: tuple[int, ImageSource]) -> tuple[int, Pixels | Skip]:
        position, source = item
        name = image_name(position, source)
        try:
            return position, load_pixels(source, self.bundle.config.image, name=name)
        except ImageError as error:
            return position, Skip.of(name, error)

    def _embed(self, batch: list[tuple[int, Pixels | Skip]]) -> ImageBatch:
        usable = [(position, item) for position, item in batch if not isinstance(item, Skip)]
        return ImageBatch(
            [position for position, _ in usable],
            self.embed_pixels([pixels for _, pixels in usable]),
            [item for _, item in batch if isinstance(item, Skip)],
        )

    def embed_pixels(self, pixels: Sequence[Pixels]) -> Embeddings:
        """Embed images that are preprocessed: UINT8 `[3, H, W]` each, `max_batch_size` at most.

        Returns:
            FP32 `[N, D]`, unit length.

        Raises:
            ServerError: as `embed_images`.
        """
        if not pixels:
            return np.empty((0, self.dim), dtype=np.float32)
        return self.towers.encode_image(np.stack(pixels))

    def close(self) -> None:
        """Close the towers and the threads; the batches that run are waited for."""
        self._closed = True
        self._decoding.shutdown(cancel_futures=True)
        self._embedding.shutdown(cancel_futures=True)
        self.towers.close()

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def image_name(position: int, source: ImageSource) -> str:
    """Return the name of an image in errors: its path, or its position in the call."""
    return str(source) if isinstance(source, (str, Path)) else f"image {position}"


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
