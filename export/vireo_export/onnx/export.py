"""Towers to ONNX: dynamic batch, bucketed lengths, normalisation inside the graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn
from vireo_client.errors import ExportError
from vireo_client.repository import ENGINE_FILE, IMAGE_MODEL, TEXT_MODEL

from .external_data import EXTERNAL_DATA_LIMIT, save_engine

OPSET = 18


def export_towers(
    text_tower: nn.Module,
    image_tower: nn.Module,
    folder: Path,
    *,
    size: int,
    buckets: Sequence[int],
    pad_id: int,
    limit: int = EXTERNAL_DATA_LIMIT,
) -> dict[str, Path]:
    """Writes two towers in evaluation mode as ONNX files, each into its folder of `folder`.

    `text_encoder`: `input_ids` INT32 `[batch, length]` to `embedding` FP32 `[batch, D]`; every
    length between 2 and the last bucket can be run.
    `image_encoder`: `pixels` UINT8 `[batch, 3, size, size]` to `embedding` FP32 `[batch, D]`.

    Args:
        text_tower: ids to unit vectors.
        image_tower: pixels to unit vectors.
        folder: where the files go.
        size: edge of the pictures.
        buckets: the lengths of texts.
        pad_id: the id that pads texts.
        limit: see `save_engine`.

    Returns:
        The files by model name.

    Raises:
        ExportError: a tower cannot be expressed in ONNX.
    """
    batch, length = (
        torch.export.Dim("batch", min=1),
        torch.export.Dim("length", min=2, max=buckets[-1]),
    )
    ids = torch.full((2, buckets[0]), pad_id, dtype=torch.int32)
    ids[:, 0] = 0
    pixels = torch.zeros((2, 3, size, size), dtype=torch.uint8)
    text, image = (folder / model / ENGINE_FILE for model in (TEXT_MODEL, IMAGE_MODEL))
    return {
        TEXT_MODEL: export_tower(text_tower, ids, "input_ids", {0: batch, 1: length}, text, limit),
        IMAGE_MODEL: export_tower(image_tower, pixels, "pixels", {0: batch}, image, limit),
    }


def export_tower(
    tower: nn.Module,
    example: Tensor,
    name: str,
    dynamic: dict[int, torch.export.Dim],
    path: Path,
    limit: int = EXTERNAL_DATA_LIMIT,
) -> Path:
    """Writes one tower as an ONNX file.

    Args:
        tower: in evaluation mode.
        example: an input, two rows at least.
        name: the input's name in the graph; the output's is `embedding`.
        dynamic: its axes that may vary.
        path: the file to write; errors call the tower by its folder.
        limit: see `save_engine`.

    Returns:
        `path`.

    Raises:
        ExportError: it cannot be expressed in ONNX.
    """
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the exporter itself
            program = torch.onnx.export(
                tower,
                (example,),
                input_names=[name],
                dynamic_shapes=(dynamic,),
                opset_version=OPSET,
                dynamo=True,
                optimize=True,
                verbose=False,
            )
        assert program is not None
        _name_output(program.model)
        save_engine(program.model, path, limit=limit)
        onnx.checker.check_model(str(path), full_check=True)
    except OSError:
        raise  # no fault of the tower
    except Exception as error:  # the exporter raises many kinds, some of them private
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(f"{path.parent.name}: cannot be expressed in ONNX ({reason})") from error
    return path


def _name_output(model: ir.Model) -> None:
    """Calls the graph's output `embedding`.

    The exporter's own `output_names` would clash: it calls every look-up's result so as well, and
    those of fixed positions become constants.
    """
    (output,) = model.graph.outputs
    made = [value for node in model.graph for value in node.outputs]
    for value in (*made, *model.graph.initializers.values()):
        if value.name == "embedding":
            value.name = "looked_up_embedding"
    output.name = "embedding"
