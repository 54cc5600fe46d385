"""Export towers to ONNX with a dynamic batch size, and a dynamic length for texts."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn
from vireo_client.errors import ExportError, first_line
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
    """Write two towers in evaluation mode as ONNX files, each into a folder of its own.

    `text_encoder`: `input_ids` INT32 `[batch, length]` to `embedding` FP32 `[batch, D]`; lengths
    from 2 to the last bucket run.
    `image_encoder`: `pixels` UINT8 `[batch, 3, size, size]` to `embedding` FP32 `[batch, D]`.

    Args:
        text_tower: maps ids to unit vectors.
        image_tower: maps pixels to unit vectors.
        folder: the folder to write to; each tower gets a subfolder with its model name.
        size: edge of the images in pixels.
        buckets: lengths of the rows of ids, ascending.
        pad_id: the id that pads rows of ids.
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
    """Write one tower as an ONNX file.

    Args:
        tower: the module, in evaluation mode.
        example: an input of at least two rows.
        name: the name of the graph's input; its output is named `embedding`.
        dynamic: the input's axes that may vary.
        path: the file to write; error messages name the tower by the file's folder.
        limit: see `save_engine`.

    Returns:
        `path`.

    Raises:
        ExportError: the tower cannot be expressed in ONNX.
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
        raise  # the tower is not at fault
    except Exception as error:  # the exporter raises many kinds, some of them private
        raise ExportError(
            f"{path.parent.name}: cannot be expressed in ONNX ({first_line(error)})"
        ) from error
    return path


def _name_output(model: ir.Model) -> None:
    """Name the graph's output `embedding`.

    The exporter's own `output_names` would clash: the exporter also names the results of embedding
    look-ups `embedding`, and look-ups of fixed positions become constants of that name.
    """
    (output,) = model.graph.outputs
    values = [value for node in model.graph for value in node.outputs]
    for value in (*values, *model.graph.initializers.values()):
        if value.name == "embedding":
            value.name = "looked_up_embedding"
    output.name = "embedding"
