"""The captioned pictures on which engines are measured and held to PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage, read_captions
from vireo_client.errors import ExportError
from vireo_client.progress import console
from vireo_training.data.scenes import write_scenes
from vireo_training.evaluation.evaluate import default_split, select_records

from ..precision import ALL_FP32, Precisions

_SCENES = 48


@dataclass(frozen=True)
class ComparisonSet:
    """What an export looks at."""

    compared: list[CaptionedImage]
    """Engines and PyTorch embed these."""
    calibration: list[CaptionedImage] | None
    """FP16 and INT8 measure ranges on these; None for those that are compared."""


@contextmanager
def comparison_set(
    bundle: Bundle, data: str | None, split: str | None, precisions: Precisions
) -> Iterator[ComparisonSet]:
    """Reads a data set, or draws scenes where there is none.

    Drawn scenes tell whether an engine gives PyTorch's vectors, which needs no knowledge of what is
    in a picture. They do not tell what recall is lost on photos. Ranges are measured on the
    training split where there is one, so that the gate sees others.

    Args:
        bundle: whose recorded division into splits counts.
        data: as `vireo export --data` takes it.
        split: pictures to compare on; by default validation, or all where no split is recorded.
        precisions: what is to be exported.

    Raises:
        DataError: there is no such data, or nothing in that split.
        ExportError: INT8 without data, or a split of nothing.
    """
    if data is None:
        if "int8" in (precisions.text, precisions.image):
            raise ExportError("int8 engines are chosen by their recall on real photos; give --data")
        if split is not None:
            raise ExportError(f"split {split!r} of what? give --data as well")
        console.print("no --data: engines are held to PyTorch on drawn scenes; recall is not told")
        with tempfile.TemporaryDirectory(prefix="vireo-scenes-") as folder:
            write_scenes(Path(folder), "train", _SCENES, seed=0)
            yield ComparisonSet(read_captions(Path(folder)).records, None)
        return
    split = split or default_split(bundle, "validation")
    records = select_records(bundle, data, split)
    divided = bundle.config.provenance.get("split") is not None
    calibration = None
    if precisions != ALL_FP32 and divided and split != "all":
        calibration = select_records(bundle, data, "train")
    yield ComparisonSet(records, calibration)
