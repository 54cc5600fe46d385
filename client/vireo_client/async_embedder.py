"""Embeds texts and images in an asyncio program: through Triton without threads, or in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .embedder import Embedder, Embeddings, image_name
from .images import ImageSource, load_pixels
from .queries import check_images
from .text.pipeline import TextPath

T = TypeVar("T")

_FEW_TEXTS = 8
"""As many texts are prepared in the event loop itself; that takes about 0.1 ms each."""
_FEW_LETTERS = 1000
"""As many letters, too: the time of word segmentation grows with the square of a text."""
_BATCHES_AT_ONCE = 2
"""Batches of images in work: while one is embedded, the next is decoded."""


class AsyncEmbedder(Protocol):
    """Embeds as `Embedder` does, to be awaited."""

    async def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed queries to unit vectors FP32 `[N, D]`."""
        ...

    async def embed_images(self, images: Sequence[ImageSource]) -> Embeddings:
        """Embed images to unit vectors FP32 `[N, D]`."""
        ...

    async def close(self) -> None:
        """Free memory, threads and connections."""
        ...


class AsyncTowers(Protocol):
    """Runs the two towers on batches that are preprocessed, as `Towers` does."""

    @property
    def max_batch_size(self) -> int:
        """The largest batch that is taken."""
        ...

    async def encode_text(self, input_ids: npt.NDArray[np.int32]) -> Embeddings:
        """Embed ids INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""
        ...

    async def encode_image(self, pixels: npt.NDArray[np.uint8]) -> Embeddings:
        """Embed pixels UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class TowersEmbedder:
    """Embeds with towers that are awaited; only the decoding of images takes threads.

    Args:
        bundle: the settings by which texts and images are preprocessed.
        towers: the towers of the same bundle.
        text_path: how texts are prepared, where it is loaded already; by default the bundle's.
    """

    def __init__(
        self, bundle: Bundle, towers: AsyncTowers, *, text_path: TextPath | None = None
    ) -> None:
        self.bundle = bundle
        self._spec = bundle.config.image
        self._dim = bundle.config.embedding_dim
        self._towers = towers
        self.text_path = text_path or TextPath.from_bundle(bundle)

    async def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed queries to unit vectors FP32 `[N, D]`; as `Embedder.embed_texts`."""
        rows = self._ids(texts) if _are_short(texts) else await asyncio.to_thread(self._ids, texts)
        out = np.empty((len(texts), self._dim), dtype=np.float32)

        async def embed(positions: Any, ids: npt.NDArray[np.int32]) -> None:
            out[positions] = await self._towers.encode_text(ids)

        size = self._towers.max_batch_size
        await _all(
            embed(positions[start : start + size], ids[start : start + size])
            for positions, ids in self.text_path.tokenizer.pad(rows)
            for start in range(0, len(positions), size)
        )
        return out

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        rows = self.text_path.ids(texts)
        self.text_path.refuse_unknown(texts, rows)
        return rows

    async def embed_images(self, images: Sequence[ImageSource]) -> Embeddings:
        """Embed images to unit vectors FP32 `[N, D]`; as `Embedder.embed_images`."""
        check_images(images)
        out = np.empty((len(images), self._dim), dtype=np.float32)
        slots = asyncio.Semaphore(_BATCHES_AT_ONCE)

        async def embed(positions: range) -> None:
            async with slots:
                pixels = await _all(
                    asyncio.to_thread(
                        load_pixels, images[p], self._spec, name=image_name(p, images[p])
                    )
                    for p in positions
                )
                out[positions.start : positions.stop] = await self._towers.encode_image(
                    np.stack(pixels)
                )

        count, size = len(images), self._towers.max_batch_size
        await _all(embed(range(start, min(start + size, count))) for start in range(0, count, size))
        return out

    async def close(self) -> None:
        """Close the connections."""
        await self._towers.close()


class ThreadedEmbedder:
    """Embeds with an `Embedder` in threads of asyncio's."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed queries to unit vectors FP32 `[N, D]`; as `Embedder.embed_texts`."""
        return await asyncio.to_thread(self._embedder.embed_texts, texts)

    async def embed_images(self, images: Sequence[ImageSource]) -> Embeddings:
        """Embed images to unit vectors FP32 `[N, D]`; as `Embedder.embed_images`."""
        return await asyncio.to_thread(self._embedder.embed_images, images)

    async def close(self) -> None:
        """Close the embedder."""
        await asyncio.to_thread(self._embedder.close)


def _are_short(texts: Sequence[str]) -> bool:
    """Return whether texts are prepared in a moment; what is no text is refused in a moment."""
    if isinstance(texts, str):
        return True
    letters = sum(len(text) for text in texts if isinstance(text, str))
    return len(texts) <= _FEW_TEXTS and letters <= _FEW_LETTERS


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at once; where one fails, or this task is cancelled, cancel the others."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
