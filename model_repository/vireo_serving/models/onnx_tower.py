"""Triton Python-backend model: one tower in ONNX Runtime, for machines without that backend.

Export copies this file as `model.py` into each tower's version folder. It runs inside Triton's
Python stub and needs `vireo_client` there, and nothing else of ours.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils
from vireo_client.cores import usable_cores
from vireo_client.errors import DataError
from vireo_client.towers.engine import OnnxEngine, tokens_of_row

from vireo_serving.models.cache import VectorCache

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
LINGER = 0.05
"""Share of a run's time that the next one waits for more company, while it would make use of it."""
REPORT_SECONDS = 1.0
"""Between two reports of the cache: each is a message to the server and its answer."""


class CacheReport:
    """Counters of a cache among the server's metrics, by the engine's name and version.

    Triton's metrics may be turned off; then there are none.
    """

    def __init__(self, cache: VectorCache, model: str, version: str) -> None:
        self.cache = cache
        self.told = {"hits": 0, "misses": 0}
        self.due = 0.0
        labels = {"model": model, "version": version}
        try:
            # A metric ends with its family.
            self.families = {
                what: pb_utils.MetricFamily(
                    name=f"vireo_cache_{what}_total",
                    description=f"Look-ups in the tower's own cache of vectors: {what}",
                    kind=pb_utils.MetricFamily.COUNTER,
                )
                for what in self.told
            }
            self.metrics = {what: f.Metric(labels=labels) for what, f in self.families.items()}
        except pb_utils.TritonModelException as error:
            pb_utils.Logger.log_warn(f"{model}: its cache is not among the metrics ({error})")
            self.metrics = {}

    def tell(self, *, last: bool = False) -> None:
        """Brings the counters up to date, unless that was done just now."""
        now = time.monotonic()
        if now < self.due and not last:
            return
        self.due = now + REPORT_SECONDS
        for what, metric in self.metrics.items():
            count = getattr(self.cache, what)
            if count > self.told[what]:
                metric.increment(count - self.told[what])
                self.told[what] = count


class Work(NamedTuple):
    """What one request asks for."""

    blocks: list
    """Arrays `[n, ...]` of rows of one shape, for the tower to run."""
    made: dict[str, np.ndarray]
    """Outputs that there are already, by name."""
    readable: np.ndarray | None = None
    """BOOL `[N]`: the other rows are in no block, and get zeros, which resemble nothing. (NaN could
    not be written as JSON over HTTP.)"""


class TritonPythonModel:
    """Joins the requests that Triton hands over together into one run of the tower.

    The image tower takes UINT8 `pixels` `[N, 3, H, W]` or, in their place, BYTES `image` `[N, 1]`;
    the text tower INT32 `input_ids` `[N, L]` or BYTES `text` `[N, 1]`. A sentence sent by itself
    would spend as long on the way to a model of its own and back as in the text path, pixels are a
    hundred times as large as their vector, and each process more makes a reload longer
    (`benchmarks/serving.py`, `benchmarks/reload.py`). What the tower makes of a string or a file is
    an output too, which the `preprocess_*` ensembles ask for alone.
    """

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.input, self.raw = (tensor["name"] for tensor in config["input"])
        self.output = config["output"][0]["name"]
        self.dim = int(config["output"][0]["dims"][0])
        parameters = {k: v["string_value"] for k, v in config["parameters"].items()}
        self.vocab_size = int(parameters.get("vocab_size", 0))
        self.max_length = int(parameters.get("max_length", 0))
        # Not Triton's own cache: it keeps errors too, and answers them with success and nothing.
        size = int(parameters.get("cache_mib", 0)) << 20
        self.cache = VectorCache(size)
        self.report = None
        if size:
            self.report = CacheReport(self.cache, args["model_name"], args["model_version"])
        # Counted here, not at export: the server's machine may be another.
        share = max(1, usable_cores() // config["instance_group"][0]["count"])
        threads = int(parameters["threads"]) or share
        self.engine = OnnxEngine(folder / "model.onnx", threads)
        # Imported here: one tower has no use for the other's, and each of them takes its time.
        if self.raw == "text":
            from vireo_serving.models.text_requests import TextRequests

            self.texts = TextRequests(folder)
            self.preprocess = self._encode
        else:
            from vireo_serving.models.image_requests import ImageRequests

            self.images = ImageRequests(folder, threads)
            self.preprocess = self._decode

    def execute(self, requests: list) -> list | None:
        """Runs the rows of all requests, those of one shape together; bad requests fail alone."""
        started = time.perf_counter()
        works = self._read(requests)
        answers = self._answers(works)
        if self.report is not None:
            self.report.tell()
        if len(requests) == 1:
            return answers
        tokens = sum(
            len(block) * tokens_of_row(block)
            for work in works
            if not isinstance(work, Exception)
            for block in work.blocks
        )
        if tokens >= self.engine.enough:
            return answers
        # A larger batch takes less time a row, and clients that have their answer soon ask again:
        # they get it now, and join those that wait already if the next run starts a little later.
        for request, answer in zip(requests, answers):  # noqa: B905
            request.get_response_sender().send(answer, flags=FINAL)
        time.sleep(LINGER * (time.perf_counter() - started))
        return None

    def finalize(self) -> None:
        if self.report is not None:
            self.report.tell(last=True)
        self.engine.close()
        if self.raw == "image":
            self.images.close()

    def _answers(self, works: list) -> list:
        answers: list = [None] * len(works)
        groups: dict[tuple, list[tuple[int, int, np.ndarray]]] = {}
        vectors: list[list] = []
        for number, work in enumerate(works):
            if isinstance(work, Exception):
                answers[number] = _failure(work)
                vectors.append([])
                continue
            vectors.append([None] * len(work.blocks))
            for place, block in enumerate(work.blocks):
                if (known := self._known(block)) is not None:
                    vectors[number][place] = known
                    continue
                groups.setdefault(block.shape[1:], []).append((number, place, block))
        for members in groups.values():
            for (number, place, block), found in zip(members, self._run(members)):  # noqa: B905
                if isinstance(found, Exception):
                    answers[number] = _failure(found)
                    continue
                vectors[number][place] = found
                if len(block) == 1 and self.vocab_size:
                    self.cache.put(block.tobytes(), found)
        return [
            answer or self._answer(work, found)
            for answer, work, found in zip(answers, works, vectors)  # noqa: B905
        ]

    def _known(self, block: np.ndarray) -> np.ndarray | None:
        """The vector of a text that was asked for before; bulk work is not looked up."""
        return self.cache.get(block.tobytes()) if len(block) == 1 and self.vocab_size else None

    def _read(self, requests: list) -> list:
        """For each request its work, or what is wrong with it."""
        found: list = [None] * len(requests)
        raw = []
        for number, request in enumerate(requests):
            ready = pb_utils.get_input_tensor_by_name(request, self.input)
            values = pb_utils.get_input_tensor_by_name(request, self.raw)
            if (ready is None) == (values is None):
                found[number] = DataError(f"send either {self.input} or {self.raw}")
            elif values is None:
                found[number] = self._checked(ready.as_numpy())
            else:
                raw.append((number, values.as_numpy()))
        if not raw:
            return found
        works = self.preprocess([values for _, values in raw], [requests[n] for n, _ in raw])
        for (number, _), work in zip(raw, works):  # noqa: B905
            found[number] = work
        return found

    def _encode(self, texts: list, requests: list) -> list:
        works = []
        for rows, request in zip(self.texts.encode(texts), requests):  # noqa: B905
            if isinstance(rows, Exception):
                works.append(rows)
                continue
            wanted = request.requested_output_names()
            # Seldom: what is not asked for shall not cost a query its time.
            made = {self.input: self.texts.pad(rows)} if self.input in wanted else {}
            works.append(Work([row[None] for row in rows] if self.output in wanted else [], made))
        return works

    def _decode(self, files: list, requests: list) -> list:
        works = []
        loaded = self.images.load(files, [request.parameters() for request in requests])
        for found, request in zip(loaded, requests):  # noqa: B905
            if isinstance(found, Exception):
                works.append(found)
                continue
            wanted = request.requested_output_names()
            made = {self.input: found.pixels, "readable": found.readable, "error": found.errors}
            made = {name: values for name, values in made.items() if name in wanted}
            if self.output not in wanted:
                works.append(Work([], made))
                continue
            readable = found.readable[:, 0]
            rows = found.pixels if readable.all() else found.pixels[readable]
            works.append(Work([rows] if len(rows) else [], made, readable))
        return works

    def _checked(self, values: np.ndarray) -> Work | DataError:
        """What is wrong by itself is refused by itself; ONNX Runtime would take negative ids."""
        if not self.vocab_size:
            return Work([values], {})  # pixels are right in any value
        if values.shape[1] > self.max_length:
            return DataError(f"{values.shape[1]} ids in a row, at most {self.max_length} are taken")
        if values.min() < 0 or values.max() >= self.vocab_size:
            wrong = values[(values < 0) | (values >= self.vocab_size)][0]
            return DataError(f"{self.input} hold {wrong}; ids are from 0 to {self.vocab_size - 1}")
        return Work([values], {})

    def _run(self, members: list[tuple[int, int, np.ndarray]]) -> list:
        """The vectors of each block, or what went wrong with it."""
        blocks = [block for _, _, block in members]
        try:
            joined = self.engine.run(np.concatenate(blocks) if len(blocks) > 1 else blocks[0])
        except Exception as error:
            if len(blocks) == 1:
                return [error]
            # One bad request must not fail its neighbours: find it by running each alone.
            return [found for member in members for found in self._run([member])]
        if len(blocks) == 1:
            return [joined]
        ends = np.cumsum([len(block) for block in blocks])
        return np.split(joined, ends[:-1])

    def _answer(self, work: Work, vectors: list[np.ndarray]) -> pb_utils.InferenceResponse:
        made = work.made
        if work.readable is not None and not work.readable.all():
            joined = np.zeros((len(work.readable), self.dim), dtype=np.float32)
            if vectors:
                (joined[work.readable],) = vectors
            vectors = [joined]
        if vectors:
            joined = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
            made = made | {self.output: joined}
        return pb_utils.InferenceResponse([pb_utils.Tensor(*output) for output in made.items()])


def _failure(error: Exception) -> pb_utils.InferenceResponse:
    fault = isinstance(error, DataError)
    code = pb_utils.TritonError.INVALID_ARG if fault else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
