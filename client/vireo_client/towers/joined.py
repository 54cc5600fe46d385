"""Runs the towers of this process for an asyncio program, and joins the texts of its tasks."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .joining import Joiner

if TYPE_CHECKING:
    from ..embedder import Towers

Embeddings = npt.NDArray[np.float32]

_LONGEST_WAIT = 0.05
"""Seconds for which a text waits for a batch under way, before it runs beside it."""


class JoinedTowers:
    """Runs two towers of this process in threads of its own, to be awaited.

    A text that comes while none is under way runs at once. Those that come meanwhile run together,
    as one batch, after it.

    Args:
        towers: the towers; they stay the caller's to close.
    """

    def __init__(self, towers: Towers) -> None:
        self._towers = towers
        self.max_batch_size: int = towers.max_batch_size
        # Images have a thread of their own, so that no text waits for a batch of them.
        self._texts = ThreadPoolExecutor(2, thread_name_prefix="vireo-texts")
        self._images = ThreadPoolExecutor(1, thread_name_prefix="vireo-images")
        self._joiner = Joiner(self._run_texts, lambda: self.max_batch_size, _LONGEST_WAIT)

    async def encode_text(self, input_ids: npt.NDArray[np.int32]) -> Embeddings:
        """Embed ids INT32 `[N, L]` to unit vectors FP32 `[N, D]`, perhaps with those of others."""
        return await self._joiner.embed(input_ids)

    async def _run_texts(self, input_ids: npt.NDArray[np.int32]) -> Embeddings:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._texts, self._towers.encode_text, input_ids)

    async def encode_image(self, pixels: npt.NDArray[np.uint8]) -> Embeddings:
        """Embed pixels UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._images, self._towers.encode_image, pixels)

    async def close(self) -> None:
        """Cancel what waits, and end the threads after what they run."""
        await self._joiner.close()
        await asyncio.to_thread(self._texts.shutdown)
        await asyncio.to_thread(self._images.shutdown)
