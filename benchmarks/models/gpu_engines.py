"""FP16 engines for GPUs, made on any machine: ONNX files for ONNX Runtime and for TensorRT."""

from __future__ import annotations

import shutil
from pathlib import Path

from vireo_client.captions import read_captions
from vireo_client.repository import ENGINE_FILE, IMAGE_MODEL, TEXT_MODEL
from vireo_client.text.pipeline import TextPath

from .build import Built, scenes

FOLDER = "fp16"
MODELS = {"text": TEXT_MODEL, "image": IMAGE_MODEL}
TARGETS = ("onnxruntime", "tensorrt")


def gpu_engine(built: Built, target: str, tower: str) -> Path:
    """Return where the FP16 file of a tower lies, for `onnxruntime` or `tensorrt`."""
    return built.folder / FOLDER / target / MODELS[tower] / ENGINE_FILE


def build_gpu_engines(built: Built, work: Path) -> None:
    """Write the FP16 files of both towers, unless they are there."""
    complete = built.folder / FOLDER / ".complete"
    if complete.is_file():
        return
    from vireo_export.onnx.export import export_towers
    from vireo_export.onnx.optimise import optimise
    from vireo_export.precision.calibration import Calibration, largest_values
    from vireo_export.precision.fp16 import to_fp16
    from vireo_serving.targets.onnxruntime import OnnxRuntime
    from vireo_serving.targets.tensorrt import TensorRT
    from vireo_training.sources import open_source

    source = open_source(built.bundle)
    config = source.bundle.config
    text_path = TextPath.from_bundle(source.bundle)
    records = read_captions(scenes(work)).records
    calibration = Calibration.read(records, config, text_path)
    scratch = built.folder / "scratch-fp16"
    exported = export_towers(
        source.text_tower, source.image_tower, scratch / "exported",
        size=config.image.size, buckets=config.text.buckets, pad_id=config.text.pad_id,
    )  # fmt: skip
    for name, target in (("onnxruntime", OnnxRuntime(device="gpu")), ("tensorrt", TensorRT())):
        for tower, model in MODELS.items():
            engine = scratch / name / model / ENGINE_FILE
            optimise(exported[model], engine, target)
            path = gpu_engine(built, name, tower)
            path.parent.mkdir(parents=True, exist_ok=True)
            to_fp16(engine, path, largest_values(engine, calibration.batches[model]))
    shutil.rmtree(scratch)
    complete.touch()
