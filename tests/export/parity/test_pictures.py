import json
import subprocess
import sys
from pathlib import Path

import pytest
from vireo_client.bundle import Bundle
from vireo_client.errors import DataError, ExportError
from vireo_export.parity.pictures import parity_images
from vireo_export.precision import ALL_FP32, Precisions


def test_without_data_scenes_are_drawn_and_removed(bundle):
    with parity_images(bundle, None, None, ALL_FP32) as images:
        folder = images.records[0].path.parent.parent
        assert len(images.records) == 48
        assert all(r.path.is_file() and r.captions for r in images.records)
        assert images.calibration is None
    assert not folder.exists()


def test_ranges_are_measured_on_other_images_than_those_compared(bundle, scenes):
    with parity_images(bundle, str(scenes / "train"), None, Precisions("fp16", "fp16")) as images:
        assert images.calibration is not None
        compared, calibration = (
            {r.path for r in records} for records in (images.records, images.calibration)
        )
    assert compared
    assert calibration
    assert not compared & calibration


def test_int8_without_photos_is_refused(bundle):
    with pytest.raises(ExportError, match="give --data"):
        with parity_images(bundle, None, None, Precisions("int8", "fp32")):
            pass
    with pytest.raises(ExportError, match="--split test selects images of a data set; give --data"):
        with parity_images(bundle, None, "test", ALL_FP32):
            pass
    with pytest.raises(DataError):
        with parity_images(bundle, "/nonexistent", None, ALL_FP32):
            pass


def test_the_command_line_exports_without_data(bundle, tmp_path):
    vireo = Path(sys.executable).parent / "vireo"
    result = subprocess.run(
        [vireo, "export", bundle.folder, "-o", tmp_path / "r", "--json"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["text"]["min_cosine"] > 0.9999
    assert "drawn scenes" in result.stderr
    assert Bundle(tmp_path / "r").bundle_id == bundle.bundle_id
