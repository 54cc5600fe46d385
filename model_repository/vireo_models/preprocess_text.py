"""Triton Python-backend model: sentences to padded ids, by the client's own text path.

Export copies this file as `model.py` into the model's version folder, beside the bundle's text
files. It runs inside Triton's Python stub and needs `vireo_client` there, and nothing else of ours.
"""

from __future__ import annotations

import os

# Before the tokenizer is loaded: its threads would take cores from the towers.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from vireo_client.bundle import Bundle
from vireo_client.text.pipeline import TextPath

MAX_TEXT_BYTES = 16_384
"""No model reads a tenth of it; a longer text would keep the others waiting."""


class TritonPythonModel:
    """BYTES `text` `[N, 1]`, UTF-8, to INT32 `input_ids` `[N, L]`.

    All rows of a request are padded to the bucket of its longest; the tower masks padding.
    """

    def initialize(self, args: dict[str, str]) -> None:
        bundle = Bundle(Path(args["model_repository"]) / args["model_version"])
        self.pad_id = bundle.config.text.pad_id
        self.pad_left = bundle.config.text.pad_side == "left"
        self.text_path = TextPath.from_bundle(bundle)
        self.blank = self.text_path.encode([""])[0].input_ids[0]

    def execute(self, requests: list) -> list:
        """Encodes the texts of all requests at once; a request with a bad one fails alone."""
        answers: list = [None] * len(requests)
        texts: list[str] = []
        spans = []
        for number, request in enumerate(requests):
            values = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
            try:
                rows = [_decode(row, value) for row, value in enumerate(values.ravel())]
            except ValueError as error:
                answers[number] = _refusal(error)
            else:
                spans.append((number, len(texts), len(texts) + len(rows)))
                texts += rows
        try:
            rows = self._encode(texts)
        except Exception:
            rows = None  # found below by encoding each request alone
        for number, start, end in spans:
            try:
                ids = rows[start:end] if rows is not None else self._encode(texts[start:end])
                answers[number] = self._answer(ids)
            except ValueError as error:
                answers[number] = _refusal(error)
            except Exception as error:
                failed = pb_utils.TritonError(f"the text cannot be encoded ({error})")
                answers[number] = pb_utils.InferenceResponse(error=failed)
        return answers

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        rows: list = [None] * len(texts)
        for positions, input_ids in self.text_path.encode(texts):
            for position, ids in zip(positions, input_ids):  # noqa: B905  # one length by contract
                rows[position] = ids
        return rows

    def _answer(self, rows: list[np.ndarray]) -> pb_utils.InferenceResponse:
        length = max(map(len, rows))
        ids = np.full((len(rows), length), self.pad_id, dtype=np.int32)
        for number, row in enumerate(rows):
            if len(row) == len(self.blank) and np.array_equal(row, self.blank):
                raise ValueError(
                    f"text {number}: holds no text; send a sentence, in letters that the model's "
                    "tokenizer knows"
                )
            start = length - len(row) if self.pad_left else 0
            ids[number, start : start + len(row)] = row
        return pb_utils.InferenceResponse([pb_utils.Tensor("input_ids", ids)])


def _decode(row: int, value: bytes) -> str:
    if len(value) > MAX_TEXT_BYTES:
        raise ValueError(
            f"text {row}: has {len(value)} bytes, at most {MAX_TEXT_BYTES} are taken; send the "
            "part that matters, the model reads only the beginning"
        )
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text {row}: is not UTF-8 ({error.reason} at byte {error.start}); encode it as UTF-8"
        ) from None


def _refusal(error: ValueError) -> pb_utils.InferenceResponse:
    code = pb_utils.TritonError.INVALID_ARG
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
