"""What flows through a tower for real inputs: the calibration set and the ranges it gives."""

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
    """Real inputs of both towers, as batches by model name."""

    batches: dict[str, list[dict[str, npt.NDArray[Any]]]]

    @classmethod
    def read(
        cls, records: Sequence[CaptionedImage], config: BundleConfig, text_path: TextPath
    ) -> Calibration:
        """Takes pictures and their captions until there are as many as the settings ask for.

        Pictures that cannot be read are passed over.

        Raises:
            ExportError: there are fewer than the settings allow.
        """
        settings = config.export
        pictures: list[npt.NDArray[np.uint8]] = []
        captions: list[str] = []
        # From all over the set: data sets are often sorted.
        for record in _spread(records, settings.calibration_pictures):
            try:
                pictures.append(load_pixels(record.path, config.image))
            except ImageError:
                continue
            captions += record.captions
        if len(pictures) < settings.min_calibration_pictures:
            raise ExportError(
                f"calibration: {len(pictures)} picture(s) can be read, and ranges measured on "
                f"fewer than {settings.min_calibration_pictures} would clip what others need; "
                "give --data with more pictures, or export in fp32"
            )
        texts = [
            {"input_ids": ids[start : start + _BATCH]}
            for _, ids in text_path.encode(list(_spread(captions, _CAPTIONS)))
            for start in range(0, len(ids), _BATCH)
        ]
        images = [
            {"pixels": np.stack(pictures[start : start + _BATCH])}
            for start in range(0, len(pictures), _BATCH)
        ]
        return cls({TEXT_MODEL: texts, IMAGE_MODEL: images})

    def reader(self, model: str) -> BatchReader:
        """Feeds one tower's batches to a calibrator."""
        return BatchReader(self.batches[model])


class BatchReader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Batches, one by one, as ONNX Runtime's calibrators want them."""

    def __init__(self, batches: Sequence[dict[str, npt.NDArray[Any]]]) -> None:
        self._rest: Iterator[dict[str, npt.NDArray[Any]]] = iter(batches)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """The next batch, or None at the end."""
        return next(self._rest, None)


def largest_values(
    engine: Path, batches: Sequence[dict[str, npt.NDArray[Any]]]
) -> dict[str, float]:
    """Runs an FP32 engine and gives each activation's largest absolute value, by tensor name."""
    with tempfile.TemporaryDirectory(dir=engine.parent) as folder, quietly():
        calibrator = create_calibrator(
            engine,
            None,
            str(Path(folder) / "augmented.onnx"),
            CalibrationMethod.MinMax,
            use_external_data_format=uses_external_data(engine),
        )
        calibrator.collect_data(BatchReader(batches))
        found = calibrator.compute_data()
    return {
        name: float(np.max(np.abs([data.range_value[0], data.range_value[1]])))
        for name, data in found.items()
    }


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` items at even steps, always the same ones."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]
