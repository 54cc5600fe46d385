"""Calibration: real inputs, and the ranges of a tower's activations for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator
from vireo_client.bundle import BundleConfig
from vireo_client.captions import CaptionedImage
from vireo_client.errors import ExportError, ImageError
from vireo_client.images import load_pixels
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL
from vireo_client.text.pipeline import TextPath

from ..onnx.external_data import uses_external_data
from .quietly import quietly

_BATCH = 8
_CAPTIONS = 256


@dataclass(frozen=True)
class Calibration:
    """Real inputs of both towers."""

    batches: dict[str, list[dict[str, npt.NDArray[Any]]]]
    """By model name: batches, each an array by input name."""

    @classmethod
    def read(
        cls, records: Sequence[CaptionedImage], config: BundleConfig, text_path: TextPath
    ) -> Calibration:
        """Read as many images and their captions as the bundle's settings require.

        Images that cannot be read are left out.

        Raises:
            ExportError: fewer images can be read than the settings allow.
        """
        settings = config.export
        images: list[npt.NDArray[np.uint8]] = []
        captions: list[str] = []
        # Data sets are often sorted, so images are taken at even steps.
        for record in spread(records, settings.calibration_pictures):
            try:
                images.append(load_pixels(record.path, config.image))
            except ImageError:
                continue
            captions += record.captions
        if len(images) < settings.min_calibration_pictures:
            raise ExportError(
                f"calibration: {len(images)} image(s) can be read, and ranges measured on fewer "
                f"than {settings.min_calibration_pictures} would clip the values of other images; "
                "give --data with more images, or export in fp32"
            )
        text_batches = [
            {"input_ids": ids[start : start + _BATCH]}
            for _, ids in text_path.encode(spread(captions, _CAPTIONS))
            for start in range(0, len(ids), _BATCH)
        ]
        image_batches = [
            {"pixels": np.stack(images[start : start + _BATCH])}
            for start in range(0, len(images), _BATCH)
        ]
        return cls({TEXT_MODEL: text_batches, IMAGE_MODEL: image_batches})

    def reader(self, model: str) -> BatchReader:
        """Return a reader of one tower's batches for a calibrator."""
        return BatchReader(self.batches[model])


class BatchReader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Hand batches to ONNX Runtime's calibrators one by one."""

    def __init__(self, batches: Sequence[dict[str, npt.NDArray[Any]]]) -> None:
        self._rest: Iterator[dict[str, npt.NDArray[Any]]] = iter(batches)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """Return the next batch, or None after the last."""
        return next(self._rest, None)


def largest_values(
    engine: Path, batches: Sequence[dict[str, npt.NDArray[Any]]]
) -> dict[str, float]:
    """Run an FP32 engine; return the largest absolute value of each activation by tensor name."""
    with tempfile.TemporaryDirectory(dir=engine.parent) as folder, quietly():
        calibrator = create_calibrator(
            engine,
            None,
            str(Path(folder) / "augmented.onnx"),
            CalibrationMethod.MinMax,
            use_external_data_format=uses_external_data(engine),
        )
        calibrator.collect_data(BatchReader(batches))
        ranges = calibrator.compute_data()
    return {
        name: float(np.max(np.abs([data.range_value[0], data.range_value[1]])))
        for name, data in ranges.items()
    }


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` items, taken at even steps."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]
