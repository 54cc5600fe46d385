"""One ONNX tower on CPU cores, for this process and for Triton's Python backend alike.

A run on several threads stops at each of its hundreds of operators until the last thread is done;
when other work holds a core, every thread waits for that one. Only a small batch must be run so: a
larger one is cut into parts that one thread each runs through alone (`benchmarks/serving.py`).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..cores import usable_cores
from ..errors import EngineError
from ..extras import import_onnxruntime

if TYPE_CHECKING:
    import onnxruntime

LEAST_TOKENS = 32
"""A part of fewer is slower than all threads on all of them: it waits for the weights."""
MOST_TOKENS = 256
"""A part of more is slower again: what its layers hand on no longer fits the core's own cache."""

LEAST_BUSY = 0.8
"""Share of the threads' time that parts must fill: some threads get a part, or a row, fewer."""

LEAST_SECONDS = 0.002
"""A row that one thread runs in less is run by one thread. Others would spare it little, and when
something else holds a core for some milliseconds, a run on all of them waits as long
(`benchmarks/threads.py`)."""

SLOWER_FUSIONS = ("SkipLayerNormFusion", "BiasGeluFusion")
"""What ONNX Runtime would make one operator of, "add, then layer norm" and "add a bias, then GELU",
though its CPU kernels of them are slower than those of the parts (`benchmarks/serving.py`)."""


class OnnxEngine:
    """Runs one tower. Threads may share it.

    Where several threads may run one row, and the tower is large enough for them, it holds the
    weights twice: ONNX Runtime packs them for a session. How large it is, is found out by running.

    Args:
        path: the ONNX file; one input, an output `embedding`.
        threads: threads that a batch may use; 0 for as many as this process has cores.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        EngineError: the file does not load, or does not run.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.threads = threads or usable_cores()
        self.enough = self.threads * MOST_TOKENS
        """Tokens of a batch that no larger one outruns."""
        self._alone = self._together = open_session(path, 1)
        self._input = self._alone.get_inputs()[0].name
        self._pool = None
        if self.threads > 1:
            if _seconds_of_row(self._alone, path) > LEAST_SECONDS:
                self._together = open_session(path, self.threads)
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=path.parent.name)

    def run(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Embeds a batch.

        Args:
            values: INT32 ids `[N, L]`, or UINT8 pixels `[N, 3, H, W]`.

        Returns:
            Unit vectors, FP32 `[N, D]`.
        """
        parts = _parts(len(values), tokens_of_row(values), self.threads)
        if not parts:
            return self._run(self._together, values)
        pieces = np.array_split(values, parts)
        if self._pool is None:
            return np.concatenate([self._run(self._alone, piece) for piece in pieces])
        found = self._pool.map(lambda piece: self._run(self._alone, piece), pieces)
        return np.concatenate(list(found))

    def close(self) -> None:
        """Ends the threads; sessions go with the object."""
        if self._pool is not None:
            self._pool.shutdown()

    def _run(
        self, session: onnxruntime.InferenceSession, values: npt.NDArray[np.generic]
    ) -> npt.NDArray[np.float32]:
        return np.asarray(session.run(["embedding"], {self._input: values})[0])


def tokens_of_row(values: npt.NDArray[np.generic]) -> int:
    """How much work a row of a batch is: ids in a text; a picture is as much as a part may be."""
    return values.shape[1] if values.ndim == 2 else MOST_TOKENS


def _seconds_of_row(session: onnxruntime.InferenceSession, path: Path) -> float:
    """The shortest time in which a session of `path` runs one row: a short text, or a picture."""
    tower_input = session.get_inputs()[0]
    _, *dims = tower_input.shape
    dtype = np.uint8 if "uint8" in tower_input.type else np.int32
    # A length is dynamic. Tokenizers pad with 0 or 1, and a tower may run a row of padding faster.
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


def _parts(rows: int, tokens: int, threads: int) -> int:
    """Says into how many parts a batch is cut; 0 if all threads are to run it together.

    Args:
        rows: of the batch.
        tokens: of each row.
        threads: that there are.
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
    """Opens an ONNX file as the engine does.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        EngineError: the file does not load.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Within a run threads wait for each other by spinning, which is a third faster than waking
    # them. After it they stop: what spins on takes a core from preprocessing and other towers.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session: onnxruntime.InferenceSession = runtime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER_FUSIONS
        )
    except Exception as error:  # ONNX Runtime's own exceptions share no public base
        raise EngineError(f"{path}: does not load in ONNX Runtime ({error})") from error
    return session
