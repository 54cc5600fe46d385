"""The captioned images on which engines are calibrated and compared with PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage, read_captions
from vireo_client.errors import ExportError
from vireo_client.held import temporary_folder
from vireo_client.progress import note
from vireo_training.data.scenes import write_scenes
from vireo_training.evaluation.evaluate import default_split, select_records

from ..precision import ALL_FP32, Precisions

_SCENES = 48


@dataclass(frozen=True)
class ParityImages:
    """The captioned images of one export."""

    records: list[CaptionedImage]
    """Images that engines and PyTorch embed."""
    calibration: list[CaptionedImage] | None
    """Images on which FP16 and INT8 measure ranges; None to use `records`."""


@contextmanager
def parity_images(
    bundle: Bundle,
    data: str | None,
    split: str | None,
    precisions: Precisions,
    *,
    columns: Sequence[str] = (),
) -> Iterator[ParityImages]:
    """Read a data set, or draw scenes if there is none.

    Drawn scenes show whether an engine gives PyTorch's vectors, because that does not depend on the
    content of an image. They do not show how much recall is lost on photos. Ranges are measured on
    the training split where there is one, so that the gate uses other images.

    Args:
        bundle: the bundle, which records how images were divided into splits.
        data: as `vireo export --data` takes it.
        split: images to compare on; by default validation, or all where no split is recorded.
        precisions: the precision of each tower.
        columns: names for the columns of a table without a header.

    Raises:
        DataError: the data cannot be read, or the split is empty.
        ExportError: INT8 or a split was requested without data.
    """
    if data is None:
        for precision in (precisions.text, precisions.image):
            if precision in ("int8", "int4"):
                raise ExportError(
                    f"{precision} engines are chosen by their recall on real photos; give --data"
                )
        if split is not None:
            raise ExportError(f"--split {split} selects images of a data set; give --data as well")
        note("no --data: engines are compared with PyTorch on drawn scenes; recall is not measured")
        with temporary_folder("vireo-scenes-") as folder:
            write_scenes(folder, "train", _SCENES, seed=0)
            yield ParityImages(read_captions(folder).records, None)
        return
    split = split or default_split(bundle, "validation", data, columns=columns)
    records = select_records(bundle, data, split, columns=columns)
    divided = bundle.config.provenance.get("split") is not None
    calibration = None
    if precisions != ALL_FP32 and divided and split != "all":
        calibration = select_records(bundle, data, "train", columns=columns)
    yield ParityImages(records, calibration)
