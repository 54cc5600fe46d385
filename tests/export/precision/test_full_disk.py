"""Each step that writes an engine raises OSError when the disk is full."""

import subprocess
import sys

import numpy as np
import pytest
from vireo_export.onnx.optimise import optimise
from vireo_export.precision.calibration import largest_values
from vireo_export.precision.fp16 import to_fp16

_STEPS = {
    "optimised": "optimise(engine, folder / 'o' / 'model.onnx')",
    "ranges": "largest_values(engine, [inputs])",
    "fp16": "to_fp16(engine, folder / 'h' / 'model.onnx', {})",
    "rounding": "with_rounding(half, folder / 'r' / 'model.onnx')",
    "int8 text": "list(candidates('text_encoder', engine, folder / 't', calibration))",
    "int8 image": "list(candidates('image_encoder', engine, folder / 'i', calibration))",
}


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    source = exported("scenes", "image")
    optimise(source.path, folder / "model.onnx")
    np.save(folder / "pixels.npy", source.inputs["pixels"])
    largest = largest_values(folder / "model.onnx", [source.inputs])
    to_fp16(folder / "model.onnx", folder / "half.onnx", largest)
    return folder


@pytest.mark.parametrize("step", _STEPS)
def test_a_full_disk_is_an_operating_system_error(folder, step):
    script = f"""
import resource
from pathlib import Path
import numpy as np
from vireo_export.precision.calibration import Calibration, largest_values
from vireo_export.precision.fp16 import to_fp16
from vireo_export.precision.candidates import candidates
from vireo_export.onnx.optimise import optimise
from vireo_export.precision.rounding import with_rounding
folder = Path({str(folder)!r})
engine, half = folder / "model.onnx", folder / "half.onnx"
inputs = {{"pixels": np.load(folder / "pixels.npy")}}
calibration = Calibration({{"image_encoder": [inputs]}})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    {_STEPS[step]}
except OSError as error:
    print("full:", error)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "full: [Errno 2" in result.stdout  # file too large, or no space left
    assert "Traceback" not in result.stderr
