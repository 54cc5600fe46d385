"""Functions that all models inside Triton's Python stub share."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import triton_python_backend_utils as pb_utils
from vireo_client import __version__
from vireo_client.errors import DataError

from vireo_serving.models.exported_with import PARAMETER, mismatch


def error_response(error: Exception) -> pb_utils.InferenceResponse:
    """Return a failed response: the caller's fault if it is a `DataError`, else the server's."""
    fault = isinstance(error, DataError)
    code = pb_utils.TritonError.INVALID_ARG if fault else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))


def read_parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a model's configuration."""
    return {key: value["string_value"] for key, value in config.get("parameters", {}).items()}


def check_version(args: Mapping[str, str]) -> None:
    """Log a warning, once a model, if another vireo than the installed one exported it.

    Args:
        args: those of `initialize`.
    """
    if not args["model_instance_name"].endswith("_0"):
        return  # the model's first instance has logged it
    parameters = read_parameters(json.loads(args["model_config"]))
    if warning := mismatch(parameters.get(PARAMETER), __version__):
        pb_utils.Logger.log_warn(f"{args['model_name']}: {warning}")


def keep_tokenizer_on_one_thread() -> None:
    """Set the tokenizer's environment variable: its threads would take cores from the towers.

    This is for a process of its own, before the tokenizer is loaded.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
