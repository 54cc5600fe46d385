"""Joins the rows of several requests into runs of one tower: plain NumPy arrays, no Triton."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from vireo_client.towers.engine import tokens_of_row

from vireo_serving.models.cache import VectorCache

WAIT_SHARE = 0.05
"""Delay before the next run, as a share of the time that the last one took."""

Block = npt.NDArray[np.generic]
"""Rows of one shape: INT32 ids `[n, L]`, or UINT8 pixels `[n, 3, H, W]`."""
Embeddings = npt.NDArray[np.float32]


class Rows(NamedTuple):
    """The rows of one request that the tower embeds."""

    blocks: list[Block]
    """Empty if the request wants no embedding, or has no row that can be embedded."""
    readable: npt.NDArray[np.bool_] | None = None
    """BOOL `[N]`, for images: the rows that are False are in no block. Their embedding is zero,
    which has no direction and resembles nothing. (NaN could not be written as JSON over HTTP.)"""


class Batcher:
    """Embeds the rows of several requests in as few runs as their shapes allow. For one thread.

    Args:
        run: embeds a batch `[n, ...]` as FP32 `[n, D]`.
        dim: D, the size of an embedding.
        cache: embeddings of rows that came alone before; without one, nothing is looked up.
    """

    def __init__(
        self, run: Callable[[Block], Embeddings], dim: int, cache: VectorCache | None = None
    ) -> None:
        self._run = run
        self._dim = dim
        self._cache = cache

    def embed(self, requests: Sequence[Rows | Exception]) -> list[Embeddings | Exception | None]:
        """Embed the rows of all requests; rows of one shape run together.

        Args:
            requests: for each request its rows, or the error with which it has failed already.

        Returns:
            For each request, in the same order: FP32 `[N, D]`; None if it wants no embedding; or
            its error. A request whose rows the tower does not take fails alone.
        """
        found: dict[tuple[int, int], Embeddings | Exception] = {}
        groups: dict[tuple[int, ...], list[tuple[tuple[int, int], Block]]] = {}
        for number, request in enumerate(requests):
            if isinstance(request, Exception):
                continue
            for place, block in enumerate(request.blocks):
                if (known := self._look_up(block)) is not None:
                    found[number, place] = known
                else:
                    groups.setdefault(block.shape[1:], []).append(((number, place), block))
        for members in groups.values():
            results = self._run_joined([block for _, block in members])
            for (key, block), result in zip(members, results, strict=True):
                found[key] = result
                self._remember(block, result)
        return [
            request
            if isinstance(request, Exception)
            else self._join(request, [found[number, n] for n in range(len(request.blocks))])
            for number, request in enumerate(requests)
        ]

    def _look_up(self, block: Block) -> Embeddings | None:
        """Return the embedding of a row that came before; bulk requests are not looked up."""
        if self._cache is None or len(block) != 1:
            return None
        return self._cache.get(block.tobytes())

    def _remember(self, block: Block, result: Embeddings | Exception) -> None:
        if self._cache is not None and len(block) == 1 and not isinstance(result, Exception):
            self._cache.put(block.tobytes(), result)

    def _run_joined(self, blocks: list[Block]) -> list[Embeddings | Exception]:
        """Return the embeddings of each block, or the error of the tower."""
        try:
            joined = self._run(np.concatenate(blocks) if len(blocks) > 1 else blocks[0])
        except Exception as error:
            if len(blocks) == 1:
                return [error]
            # One bad request must not fail its neighbours: find it by running each alone.
            return [result for block in blocks for result in self._run_joined([block])]
        if len(blocks) == 1:
            return [joined]
        ends = np.cumsum([len(block) for block in blocks])
        return [*np.split(joined, ends[:-1])]

    def _join(
        self, request: Rows, pieces: list[Embeddings | Exception]
    ) -> Embeddings | Exception | None:
        """Return the answer to one request from the results of its blocks."""
        embeddings = []
        for piece in pieces:
            if isinstance(piece, Exception):
                return piece
            embeddings.append(piece)
        if request.readable is not None and not request.readable.all():
            joined = np.zeros((len(request.readable), self._dim), dtype=np.float32)
            if embeddings:
                (joined[request.readable],) = embeddings
            return joined
        if not embeddings:
            return None
        return embeddings[0] if len(embeddings) == 1 else np.concatenate(embeddings)


class BatchDelay:
    """Delays the next run a little while a larger batch would take less time a row.

    Clients that have their answers soon send their next requests. If the next run starts a little
    later, these join the requests that wait already.

    Args:
        enough_tokens: a batch of so many tokens takes no less time a row when it grows.
        clock: gives seconds.
        sleep: waits for some.
    """

    def __init__(
        self,
        enough_tokens: int,
        *,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._enough_tokens = enough_tokens
        self._clock = clock
        self._sleep = sleep
        self._started = clock()

    def start(self) -> None:
        """Note that a run begins."""
        self._started = self._clock()

    def helps(self, requests: Sequence[Rows | Exception]) -> bool:
        """Return whether requests came together and a larger batch than theirs would be faster."""
        if len(requests) == 1:
            return False
        tokens = sum(
            len(block) * tokens_of_row(block)
            for request in requests
            if not isinstance(request, Exception)
            for block in request.blocks
        )
        return tokens < self._enough_tokens

    def wait(self) -> None:
        """Wait for a share of the time since the run began; answers should be out before."""
        self._sleep(WAIT_SHARE * (self._clock() - self._started))
