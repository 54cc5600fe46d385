import json
import subprocess
import sys
from pathlib import Path

import pytest
from vireo_client.bundle import Bundle
from vireo_client.errors import DataError, ExportError
from vireo_export.parity.pictures import comparison_set
from vireo_export.precision import ALL_FP32, Precisions


def test_without_data_scenes_are_drawn_and_removed(bundle):
    with comparison_set(bundle, None, None, ALL_FP32) as pictures:
        folder = pictures.compared[0].path.parent.parent
        assert len(pictures.compared) == 48
        assert all(r.path.is_file() and r.captions for r in pictures.compared)
        assert pictures.calibration is None
    assert not folder.exists()


def test_ranges_are_measured_on_other_pictures_than_those_compared(bundle, scenes):
    with comparison_set(bundle, str(scenes / "train"), None, Precisions("fp16", "fp16")) as found:
        assert found.calibration is not None
        compared, calibration = (
            {r.path for r in part} for part in (found.compared, found.calibration)
        )
    assert compared
    assert calibration
    assert not compared & calibration


def test_int8_without_photos_is_refused(bundle):
    with pytest.raises(ExportError, match="give --data"):
        with comparison_set(bundle, None, None, Precisions("int8", "fp32")):
            pass
    with pytest.raises(ExportError, match="split 'test' of what"):
        with comparison_set(bundle, None, "test", ALL_FP32):
            pass
    with pytest.raises(DataError):
        with comparison_set(bundle, "/nonexistent", None, ALL_FP32):
            pass


def test_the_command_line_exports_without_data(bundle, tmp_path):
    vireo = Path(sys.executable).parent / "vireo"
    done = subprocess.run(
        [vireo, "export", bundle.folder, "-o", tmp_path / "r", "--json"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"]["min_cosine"] > 0.9999
    assert "drawn scenes" in done.stderr
    assert Bundle(tmp_path / "r").bundle_id == bundle.bundle_id
