"""Embeds texts and images: one interface over all that can run the two towers.

`Embedder` owns the parts that must be the same everywhere: preprocessing, buckets, batch sizes and
the order of results. A `Towers` only runs a batch of ids or pixels. Three exist: `OnnxTowers` (in
process), `TritonTowers` (gRPC), and training's `TorchTowers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .captions import Skip
from .errors import ImageError
from .forks import renew_after_fork
from .images import ImageSource, load_pixels
from .queries import check_images
from .text.pipeline import TextPath

Embeddings = npt.NDArray[np.float32]
T = TypeVar("T")


class Towers(Protocol):
    """Runs the two towers on batches that are preprocessed."""

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
        decode_threads: threads that decode images (Pillow releases the interpreter lock).
    """

    def __init__(self, bundle: Bundle, towers: Towers, *, decode_threads: int = 2) -> None:
        self.bundle = bundle
        self.towers = towers
        self.text_path = TextPath.from_bundle(bundle)
        self._decode_threads = decode_threads
        self._pool = self._open_pool()
        renew_after_fork(self)

    def _open_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._decode_threads, thread_name_prefix="vireo-decode")

    def after_fork(self) -> None:
        """Make the decoding threads anew in a forked child."""
        self._pool = self._open_pool()  # starts its threads at the first image

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
        """
        rows = self.text_path.ids(texts)
        if not allow_unknown:
            self.text_path.refuse_unknown(texts, rows)
        out = np.empty((len(texts), self.dim), dtype=np.float32)
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
        """
        check_images(images)
        out = np.empty((len(images), self.dim), dtype=np.float32)
        for batch in self.embed_image_stream(images):
            if batch.skipped:
                raise ImageError(str(batch.skipped[0]))
            out[batch.positions] = batch.embeddings
        return out

    def embed_image_stream(
        self, images: Iterable[ImageSource], *, batch_size: int | None = None
    ) -> Iterator[ImageBatch]:
        """Embed any number of images, batch by batch, and skip those that cannot be read.

        The next batch is decoded while the towers run the present one.
        """
        size = min(batch_size or self.towers.max_batch_size, self.towers.max_batch_size)
        batches = (self._start_decoding(b) for b in _batched(enumerate(images), size))
        decoding = next(batches, None)
        while decoding is not None:
            following = next(batches, None)  # decodes while the towers run
            positions, pixels, skipped = [], [], []
            for position, source, future in decoding:
                try:
                    pixels.append(future.result())
                    positions.append(position)
                except ImageError as error:
                    skipped.append(Skip.of(_name(position, source), error))
            vectors = np.empty((0, self.dim), dtype=np.float32)
            if pixels:
                vectors = self.towers.encode_image(np.stack(pixels))
            yield ImageBatch(positions, vectors, skipped)
            decoding = following

    def _start_decoding(
        self, batch: list[tuple[int, ImageSource]]
    ) -> list[tuple[int, ImageSource, Future[npt.NDArray[np.uint8]]]]:
        spec = self.bundle.config.image
        return [
            (p, source, self._pool.submit(load_pixels, source, spec, name=_name(p, source)))
            for p, source in batch
        ]

    def close(self) -> None:
        """Close the towers and the decoding threads."""
        self._pool.shutdown(cancel_futures=True)
        self.towers.close()

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _name(position: int, source: ImageSource) -> str:
    """Return the name of an image in errors: its path, or its position in the call."""
    return str(source) if isinstance(source, (str, Path)) else f"image {position}"


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
