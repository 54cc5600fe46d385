"""Triton Python-backend model: one tower in ONNX Runtime, for machines without that backend.

Export copies this file as `model.py` into each tower's version folder. It runs inside Triton's
Python stub, where vireo's client and `vireo_serving` must be installed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils
from vireo_client.bundle import read_bundle_config
from vireo_client.cores import usable_cores
from vireo_client.errors import DataError
from vireo_client.towers.engine import OnnxEngine

from vireo_serving.models.batching import BatchDelay, Batcher, Embeddings, Rows
from vireo_serving.models.cache import VectorCache
from vireo_serving.models.cache_metrics import CacheMetrics
from vireo_serving.models.restart_metrics import RestartMetrics
from vireo_serving.models.triton_model import (
    check_version,
    error_response,
    keep_tokenizer_on_one_thread,
    read_parameters,
)

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class Prepared(NamedTuple):
    """One request after preprocessing."""

    rows: Rows
    outputs: dict[str, npt.NDArray[Any]]
    """Outputs beside the embedding that the request wants, by name."""


class TritonPythonModel:
    """Joins the requests that Triton hands over together into one run of the tower.

    The image tower takes UINT8 `pixels` `[N, 3, H, W]` or, in their place, BYTES `image` `[N, 1]`;
    the text tower INT32 `input_ids` `[N, L]` or BYTES `text` `[N, 1]`. Preprocessing is part of the
    tower: a query would spend as long on the way to a model of its own and back as in the text
    path, pixels are a hundred times as large as their embedding, and each process more makes a
    reload longer (`benchmarks/serving.py`, `benchmarks/reload.py`). The ids or pixels that come of
    a string or a file are an output too, the only one that the `preprocess_*` ensembles request.
    """

    def initialize(self, args: dict[str, str]) -> None:
        check_version(args)
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.input, self.raw = (tensor["name"] for tensor in config["input"])
        output = config["output"][0]
        self.output = output["name"]
        parameters = read_parameters(config)
        # Counted here, not at export: the server's machine may be another.
        share = max(1, usable_cores() // config["instance_group"][0]["count"])
        threads = int(parameters["threads"]) or share
        padding = None
        if self.raw == "text":
            padding = read_bundle_config(folder).text.free_padding
        self.engine = OnnxEngine(folder / "model.onnx", threads, padding=padding)
        # Not Triton's own cache: it keeps errors too, and answers them with success and nothing.
        size = int(parameters.get("cache_mib", 0)) << 20
        cache = VectorCache(size) if size else None
        self.metrics = None
        if cache is not None:
            self.metrics = CacheMetrics(cache, args["model_name"], args["model_version"])
        self.batcher = Batcher(self.engine.run, int(output["dims"][0]), cache)
        self.delay = BatchDelay(self.engine.enough)
        # Imported here: one tower has no use for the other's, and each of them takes its time.
        if self.raw == "text":
            keep_tokenizer_on_one_thread()
            from vireo_serving.models.text_requests import IdRange, TextRequests

            self.restarts = RestartMetrics(args["model_name"], args["model_version"])
            self.id_range = IdRange.from_parameters(parameters)
            self.texts = TextRequests(folder)
        else:
            from vireo_serving.models.image_requests import ImageRequests

            self.images = ImageRequests(folder, threads)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Embed the rows of all requests, those of one shape together; bad requests fail alone."""
        self.delay.start()
        prepared = self._prepare(requests)
        rows = [p if isinstance(p, Exception) else p.rows for p in prepared]
        results = self.batcher.embed(rows)
        responses = [self._response(p, r) for p, r in zip(prepared, results, strict=True)]
        if self.metrics is not None:
            self.metrics.update()
        if not self.delay.helps(rows):
            return responses
        for request, response in zip(requests, responses, strict=True):
            request.get_response_sender().send(response, flags=FINAL)
        self.delay.wait()
        return None

    def finalize(self) -> None:
        if self.metrics is not None:
            self.metrics.update(last=True)
        self.engine.close()
        if self.raw == "image":
            self.images.close()

    def _prepare(self, requests: list[Any]) -> list[Prepared | Exception]:
        """Preprocess all requests together; one that is wrong becomes its error."""
        prepared: dict[int, Prepared | Exception] = {}
        raw: dict[int, npt.NDArray[np.object_]] = {}
        for number, request in enumerate(requests):
            ready = pb_utils.get_input_tensor_by_name(request, self.input)
            values = pb_utils.get_input_tensor_by_name(request, self.raw)
            if (ready is None) == (values is None):
                prepared[number] = DataError(f"send either {self.input} or {self.raw}")
            elif values is None:
                prepared[number] = self._take_ready(ready.as_numpy())
            else:
                raw[number] = values.as_numpy()
        if raw:
            preprocess = self._encode if self.raw == "text" else self._decode
            results = preprocess(list(raw.values()), [requests[number] for number in raw])
            prepared.update(zip(raw, results, strict=True))
        return [prepared[number] for number in range(len(requests))]

    def _take_ready(self, values: npt.NDArray[Any]) -> Prepared | Exception:
        """Check ids, because ONNX Runtime would take negative ones; pixels may have any value."""
        if self.raw == "text" and (error := self.id_range.error(values)):
            return error
        return Prepared(Rows([values]), {})

    def _encode(
        self, texts: list[npt.NDArray[np.object_]], requests: Sequence[Any]
    ) -> list[Prepared | Exception]:
        prepared: list[Prepared | Exception] = []
        for rows, request in zip(self.texts.encode(texts), requests, strict=True):
            if isinstance(rows, Exception):
                prepared.append(rows)
                continue
            wanted = request.requested_output_names()
            # A query does not want its ids: no time is spent on them then.
            outputs = {self.input: self.texts.pad(rows)} if self.input in wanted else {}
            blocks = [row[None] for row in rows] if self.output in wanted else []
            prepared.append(Prepared(Rows([*blocks]), outputs))
        return prepared

    def _decode(
        self, files: list[npt.NDArray[np.object_]], requests: Sequence[Any]
    ) -> list[Prepared | Exception]:
        prepared: list[Prepared | Exception] = []
        loaded = self.images.load(files, [request.parameters() for request in requests])
        for images, request in zip(loaded, requests, strict=True):
            if isinstance(images, Exception):
                prepared.append(images)
                continue
            wanted = request.requested_output_names()
            outputs: dict[str, npt.NDArray[Any]] = {
                self.input: images.pixels, "readable": images.readable, "error": images.errors,
            }  # fmt: skip
            outputs = {name: values for name, values in outputs.items() if name in wanted}
            rows = Rows([])
            if self.output in wanted:
                readable = images.readable[:, 0]
                pixels = images.pixels if readable.all() else images.pixels[readable]
                rows = Rows([pixels] if len(pixels) else [], readable)
            prepared.append(Prepared(rows, outputs))
        return prepared

    def _response(
        self, prepared: Prepared | Exception, result: Embeddings | Exception | None
    ) -> pb_utils.InferenceResponse:
        if isinstance(prepared, Exception):
            return error_response(prepared)
        if isinstance(result, Exception):
            return error_response(result)
        outputs = dict(prepared.outputs)
        if result is not None:
            outputs[self.output] = result
        return pb_utils.InferenceResponse([pb_utils.Tensor(*output) for output in outputs.items()])
