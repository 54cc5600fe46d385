"""Triton Python-backend model: one tower in ONNX Runtime, for machines without that backend.

Export copies this file as `model.py` into each tower's version folder. It runs inside Triton's
Python stub and needs `vireo_client` there, and nothing else of ours.
"""

from __future__ import annotations

import json
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from vireo_client.cores import usable_cores


class TritonPythonModel:
    """Joins the requests that Triton hands over together into one run of the tower."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.input = config["input"][0]["name"]
        self.output = config["output"][0]["name"]
        parameters = {k: v["string_value"] for k, v in config["parameters"].items()}
        self.vocab_size = int(parameters.get("vocab_size", 0))
        self.max_length = int(parameters.get("max_length", 0))
        instances = config["instance_group"][0]["count"]
        # Counted here, not at export: the server's machine may be another.
        share = max(1, usable_cores() // instances)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"]) or share
        options.log_severity_level = 3
        # Within a run threads wait for each other by spinning, which is a third faster than waking
        # them. After it they stop: what spins on takes a core from preprocessing and other towers.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.session = onnxruntime.InferenceSession(
            os.path.join(folder, "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests: list) -> list:
        batches = [pb_utils.get_input_tensor_by_name(r, self.input).as_numpy() for r in requests]
        # What is wrong by itself is refused by itself; ONNX Runtime would take negative ids.
        answers = [self._refuse(batch) for batch in batches]
        good = [number for number, refused in enumerate(answers) if refused is None]
        if good:
            for number, answer in zip(good, self._answers([batches[n] for n in good])):  # noqa: B905
                answers[number] = answer
        return answers

    def _answers(self, batches: list) -> list:
        # The dynamic batcher joins only requests of one shape (apart from the batch).
        try:
            joined = (
                self._run(np.concatenate(batches)) if len(batches) > 1 else self._run(batches[0])
            )
        except Exception as error:
            if len(batches) == 1:
                return [self._failure(error)]
            # One bad request must not fail its neighbours: find it by running each alone.
            return [self._run_alone(batch) for batch in batches]
        ends = np.cumsum([len(batch) for batch in batches])
        return [self._answer(part) for part in np.split(joined, ends[:-1])]

    def _refuse(self, values: np.ndarray) -> pb_utils.InferenceResponse | None:
        """Says what is wrong with ids; pixels are right in any value."""
        if not self.vocab_size:
            return None
        message = ""
        if values.shape[1] > self.max_length:
            message = f"{values.shape[1]} ids in a row, at most {self.max_length} are taken"
        elif values.min() < 0 or values.max() >= self.vocab_size:
            wrong = values[(values < 0) | (values >= self.vocab_size)][0]
            message = f"{self.input} hold {wrong}; ids are from 0 to {self.vocab_size - 1}"
        if not message:
            return None
        error = pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
        return pb_utils.InferenceResponse(error=error)

    def _run(self, values: np.ndarray) -> np.ndarray:
        return self.session.run([self.output], {self.input: values})[0]

    def _run_alone(self, values: np.ndarray) -> pb_utils.InferenceResponse:
        try:
            return self._answer(self._run(values))
        except Exception as error:
            return self._failure(error)

    def _answer(self, vectors: np.ndarray) -> pb_utils.InferenceResponse:
        return pb_utils.InferenceResponse([pb_utils.Tensor(self.output, vectors)])

    def _failure(self, error: Exception) -> pb_utils.InferenceResponse:
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
