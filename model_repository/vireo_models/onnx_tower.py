"""Triton Python-backend model: one tower in ONNX Runtime, for machines without that backend.

Export copies this file as `model.py` into each tower's version folder. It runs inside Triton's
Python stub and needs `vireo_client` there, and nothing else of ours.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from vireo_client.cores import usable_cores
from vireo_client.errors import DataError
from vireo_client.towers.cache import VectorCache
from vireo_client.towers.engine import OnnxEngine, tokens_of_row

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
LINGER = 0.05
"""Share of a run's time that the next one waits for more company, while it would make use of it."""


class TritonPythonModel:
    """Joins the requests that Triton hands over together into one run of the tower.

    The image tower takes UINT8 `pixels` `[N, 3, H, W]`. The text tower takes INT32 `input_ids`
    `[N, L]` or, in their place, BYTES `text` `[N, 1]`: a sentence sent by itself would spend as
    long on the way to a model of its own and back as in the text path.
    """

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        inputs = [tensor["name"] for tensor in config["input"]]
        self.input = inputs[0]
        self.output = config["output"][0]["name"]
        parameters = {k: v["string_value"] for k, v in config["parameters"].items()}
        self.vocab_size = int(parameters.get("vocab_size", 0))
        self.max_length = int(parameters.get("max_length", 0))
        # Not Triton's own cache: it keeps errors too, and answers them with success and nothing.
        self.cache = VectorCache(int(parameters.get("cache_mib", 0)) << 20)
        # Counted here, not at export: the server's machine may be another.
        share = max(1, usable_cores() // config["instance_group"][0]["count"])
        self.engine = OnnxEngine(folder / "model.onnx", int(parameters["threads"]) or share)
        self.texts = None
        if "text" in inputs:
            from vireo_client.text.requests import TextRequests

            self.texts = TextRequests(folder)

    def execute(self, requests: list) -> list | None:
        """Runs the rows of all requests, those of one shape together; bad requests fail alone."""
        started = time.perf_counter()
        batches = self._read(requests)
        answers = self._answers(batches)
        if len(requests) == 1:
            return answers
        tokens = sum(
            len(block) * tokens_of_row(block)
            for blocks in batches
            if not isinstance(blocks, Exception)
            for block in blocks
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
        self.engine.close()

    def _answers(self, batches: list) -> list:
        answers: list = [None] * len(batches)
        groups: dict[tuple, list[tuple[int, int, np.ndarray]]] = {}
        vectors: list[list] = []
        for number, blocks in enumerate(batches):
            if isinstance(blocks, Exception):
                answers[number] = _failure(blocks)
                vectors.append([])
                continue
            vectors.append([None] * len(blocks))
            for place, block in enumerate(blocks):
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
            answer or self._answer(found)
            for answer, found in zip(answers, vectors)  # noqa: B905
        ]

    def _known(self, block: np.ndarray) -> np.ndarray | None:
        """The vector of a text that was asked for before; bulk work is not looked up."""
        return self.cache.get(block.tobytes()) if len(block) == 1 and self.vocab_size else None

    def _read(self, requests: list) -> list:
        """For each request its blocks `[n, ...]` of rows of one shape, or what is wrong with it."""
        given = [pb_utils.get_input_tensor_by_name(r, self.input) for r in requests]
        found: list = [
            None if tensor is None else self._checked(tensor.as_numpy()) for tensor in given
        ]
        if self.texts is None:
            return found
        texts = [pb_utils.get_input_tensor_by_name(r, "text") for r in requests]
        asked = []
        for number, text in enumerate(texts):
            if (text is None) == (found[number] is None):
                found[number] = DataError(f"send either {self.input} or text")
            elif text is not None:
                asked.append(number)
        if asked:
            encoded = self.texts.encode([texts[number].as_numpy() for number in asked])
            for number, rows in zip(asked, encoded):  # noqa: B905
                found[number] = rows if isinstance(rows, Exception) else [row[None] for row in rows]
        return found

    def _checked(self, values: np.ndarray) -> list[np.ndarray] | DataError:
        """What is wrong by itself is refused by itself; ONNX Runtime would take negative ids."""
        if not self.vocab_size:
            return [values]  # pixels are right in any value
        if values.shape[1] > self.max_length:
            return DataError(f"{values.shape[1]} ids in a row, at most {self.max_length} are taken")
        if values.min() < 0 or values.max() >= self.vocab_size:
            wrong = values[(values < 0) | (values >= self.vocab_size)][0]
            return DataError(f"{self.input} hold {wrong}; ids are from 0 to {self.vocab_size - 1}")
        return [values]

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

    def _answer(self, vectors: list[np.ndarray]) -> pb_utils.InferenceResponse:
        joined = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
        return pb_utils.InferenceResponse([pb_utils.Tensor(self.output, joined)])


def _failure(error: Exception) -> pb_utils.InferenceResponse:
    fault = isinstance(error, DataError)
    code = pb_utils.TritonError.INVALID_ARG if fault else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
