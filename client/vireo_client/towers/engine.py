"""Runs one ONNX tower on CPU cores, in this process and in Triton's Python backend.

A run on several threads waits at each of its hundreds of operators until the last thread is done;
when other work holds a core, all threads wait for that one. Only a small batch is run in this way.
A larger one is cut into parts, and each part is run by one thread alone (`benchmarks/serving.py`).

A text tower does not run padding that no embedding depends on. Texts come padded to a bucket, so
that a server can join them; here the rows are sorted by length, and each part is only as wide as
its longest text.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..cores import usable_cores
from ..errors import EngineError
from ..extras import import_onnxruntime
from ..forks import abandon, renew_after_fork

if TYPE_CHECKING:
    import onnxruntime

LEAST_TOKENS = 32
"""The smallest part, in tokens, that one thread runs alone. A smaller part mostly reads weights,
and all threads together are faster."""
MOST_TOKENS = 256
"""The largest part, in tokens. The activations of a larger one no longer fit the core's own
cache."""

LEAST_BUSY = 0.8
"""The smallest share of the threads' time that the parts must fill. They cannot always fill all of
it: some threads get one part, or one row, less than others."""

LEAST_SECONDS = 0.002
"""The shortest run of one row, in seconds, for which several threads are used. For a shorter one
they would save little, and whenever other work holds a core for some milliseconds, a run on all
threads waits as long (`benchmarks/threads.py`)."""

SLOWER_FUSIONS = ("SkipLayerNormFusion", "BiasGeluFusion")
"""Fusions of ONNX Runtime that are switched off: "add, then layer norm" and "add a bias, then
GELU". On a CPU, the fused operators are slower than their parts (`benchmarks/serving.py`)."""


class OnnxEngine:
    """Runs one tower. Threads may share it; a forked child loads the tower anew at its first run.

    A tower that is large enough for several threads a row is loaded twice, as one session on one
    thread and one on all threads, and ONNX Runtime packs the weights for each. The constructor runs
    a row to measure whether it is.

    Args:
        path: the ONNX file; one input, an output `embedding`.
        threads: threads that a batch may use; 0 for as many as this process has cores.
        padding: the id behind a text that the embedding does not depend on; None for a tower whose
            rows are run as they come.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        EngineError: the file does not load, or does not run.
    """

    def __init__(self, path: Path, threads: int = 0, *, padding: int | None = None) -> None:
        self.threads = threads or usable_cores()
        self._padding = padding
        self.enough = self.threads * MOST_TOKENS
        """The number of tokens in a batch from which on larger batches are no faster per token."""
        self._path = path
        self._alone = self._together = open_session(path, 1)
        self._input = self._alone.get_inputs()[0].name
        if self.threads > 1 and _seconds_of_row(self._alone, path) > LEAST_SECONDS:
            self._together = open_session(path, self.threads)
        self._pool = self._open_pool()
        self._lock = Lock()
        self._forked = False
        renew_after_fork(self)

    def _open_pool(self) -> ThreadPoolExecutor | None:
        if self.threads == 1:
            return None
        return ThreadPoolExecutor(self.threads, thread_name_prefix=self._path.parent.name)

    def after_fork(self) -> None:
        """Drop the parent's threads and sessions in a forked child."""
        abandon(self._alone)
        abandon(self._together)
        self._pool = self._open_pool()  # starts its threads at the first batch
        self._lock = Lock()
        self._forked = True

    def _renew(self) -> None:
        with self._lock:
            if self._forked:
                several = self._together is not self._alone
                self._alone = self._together = open_session(self._path, 1)
                if several:
                    self._together = open_session(self._path, self.threads)
                self._forked = False

    def run(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Embed a batch.

        Args:
            values: INT32 ids `[N, L]`, or UINT8 pixels `[N, 3, H, W]`.

        Returns:
            Unit vectors, FP32 `[N, D]`.

        Raises:
            EngineError: this is a forked child, and the file is gone or does not load any more.
        """
        if self._forked:
            self._renew()
        if self._padding is None:
            return self._run_pieces(_cut(values, self.threads))
        if len(values) == 1:
            length = _length(values[0].tolist(), self._padding)
            return self._run(self._together, values[:, :length])
        lengths = np.array([_length(row, self._padding) for row in values.tolist()], dtype=np.intp)
        order = np.argsort(lengths, kind="stable")
        found = self._run_pieces(_cut(values[order], self.threads, lengths[order]))
        embeddings = np.empty_like(found)
        embeddings[order] = found
        return embeddings

    def _run_pieces(self, pieces: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
        if len(pieces) == 1:
            return self._run(self._together, pieces[0])
        if self._pool is None:
            return np.concatenate([self._run(self._alone, piece) for piece in pieces])
        results = self._pool.map(lambda piece: self._run(self._alone, piece), pieces)
        return np.concatenate(list(results))

    def close(self) -> None:
        """End the threads; the sessions are freed with the object."""
        if self._pool is not None:
            self._pool.shutdown()

    def _run(
        self, session: onnxruntime.InferenceSession, values: npt.NDArray[np.generic]
    ) -> npt.NDArray[np.float32]:
        return np.asarray(session.run(["embedding"], {self._input: values})[0])


def tokens_of_row(values: npt.NDArray[np.generic]) -> int:
    """Return the work of one row in tokens: a text's ids; an image counts as a whole part."""
    return values.shape[1] if values.ndim == 2 else MOST_TOKENS


def _seconds_of_row(session: onnxruntime.InferenceSession, path: Path) -> float:
    """Measure the shortest time in which a session runs one row: a short text, or an image."""
    tower_input = session.get_inputs()[0]
    _, *dims = tower_input.shape
    dtype = np.uint8 if "uint8" in tower_input.type else np.int32
    # Dynamic lengths are strings. 2 is a real id: tokenizers pad with 0 or 1, and a tower may run a
    # row of padding faster.
    row = np.full([1, *(LEAST_TOKENS if isinstance(d, str) else d for d in dims)], 2, dtype)
    best = float("inf")
    for number in range(5):
        started = time.perf_counter()
        try:
            session.run(["embedding"], {tower_input.name: row})
        except Exception as error:  # as in `open_session`
            raise EngineError(f"{path}: does not run in ONNX Runtime ({error})") from error
        best = min(best, time.perf_counter() - started)
        # The first run is slower than others, and does not show that a tower is large.
        if best < LEAST_SECONDS or (number and best > 5 * LEAST_SECONDS):
            break
    return best


def _length(ids: list[int], padding: int) -> int:
    """Return the tokens of a text without the padding behind it; the shortest row has two."""
    length = len(ids)
    while length > 2 and ids[length - 1] == padding:
        length -= 1
    return length


def _cut(
    values: npt.NDArray[np.generic], threads: int, lengths: npt.NDArray[np.intp] | None = None
) -> list[npt.NDArray[np.generic]]:
    """Cut a batch into the pieces that threads run; one piece is run by all of them.

    Args:
        values: the rows.
        threads: the number of threads.
        lengths: the tokens of each row, ascending, if the rest is padding.
    """
    if lengths is None or not len(values):
        return np.array_split(values, _parts(len(values), tokens_of_row(values), threads) or 1)
    total, longest = int(lengths.sum()), int(lengths[-1])
    parts = _parts(len(values), -(-total // len(values)), threads) or 1
    # The smallest size, padding included, with which there are no more parts than that.
    sizes = range(max(longest, -(-total // parts)), len(values) * longest)
    size = bisect_left(sizes, -parts, key=lambda size: -len(_starts(lengths, size))) + sizes.start
    starts = _starts(lengths, size)
    ends = [*starts[1:], len(values)]
    return [values[a:b, : lengths[b - 1]] for a, b in zip(starts, ends, strict=True)]


def _starts(lengths: npt.NDArray[np.intp], size: int) -> list[int]:
    """Return where parts begin that hold at most `size` tokens each, the longest rows first."""
    starts = [len(lengths)]
    while starts[-1]:
        last = starts[-1]
        starts.append(max(0, last - max(1, size // int(lengths[last - 1]))))
    return starts[:0:-1]


def _parts(rows: int, tokens: int, threads: int) -> int:
    """Return the number of parts of a batch; 0 if all threads are to run it together.

    Args:
        rows: the number of rows in the batch.
        tokens: the number of tokens in each row.
        threads: the number of threads.
    """
    if rows * tokens < threads * LEAST_TOKENS:
        return 0
    most = max(1, MOST_TOKENS // tokens)
    rounds = -(-rows // (threads * most))
    largest = -(-rows // (threads * rounds))
    if rows < LEAST_BUSY * threads * rounds * largest:
        return 0
    return min(threads * rounds, rows)


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Open an ONNX file with the settings of the engine.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        EngineError: the file does not load.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Within a run, threads wait for each other by spinning, which is a third faster than waking
    # them. After the run they stop: otherwise they would take cores from preprocessing and from
    # other towers.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session: onnxruntime.InferenceSession = runtime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER_FUSIONS
        )
    except Exception as error:  # ONNX Runtime's own exceptions share no public base
        raise EngineError(f"{path}: does not load in ONNX Runtime ({error})") from error
    return session
