import resource
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from vireo_client.captions import CaptionedImage
from vireo_client.errors import DataError
from vireo_client.images import load_pixels
from vireo_training.data.decode import decode_images


def test_unreadable_images_are_left_out_by_name(photo, bundle):
    records = [CaptionedImage(photo(f"{n}.png", seed=n), ("câu",)) for n in range(10)]
    records[3].path.write_bytes(b"broken")
    records[7].path.unlink()
    spec = bundle.config.image
    with tempfile.TemporaryFile() as file:
        decoded = decode_images(records, spec, side=spec.size, file=file, label="test")
    assert len(decoded.records) == len(decoded.pixels) == 8
    assert [s.where for s in decoded.skipped] == [str(records[3].path), str(records[7].path)]
    for record in decoded.records:
        record.path.unlink()  # what was decoded stays
    assert np.array_equal(decoded.pixels[4], load_pixels(photo("5.png", seed=5), spec))
    with tempfile.TemporaryFile() as file, pytest.raises(DataError, match="no image could be"):
        decode_images([records[3]], spec, side=96, file=file, label="test")


def test_a_disk_without_room_is_an_error_before_anything_is_decoded(photo):
    """A limit on file size stands for the full disk: the system refuses either the same way."""
    path = photo("a.png")
    script = f"""
import signal, tempfile
from pathlib import Path
from vireo_client.bundle import ImageSpec
from vireo_client.captions import CaptionedImage
from vireo_client.errors import TrainingError
from vireo_training.data.decode import decode_images
spec = ImageSpec(size=96, resize=96, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
with tempfile.NamedTemporaryFile() as file:
    try:
        decode_images([CaptionedImage(Path({str(path)!r}), ("x",))], spec, side=96, file=file,
                        label="")
    except TrainingError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no room for 0.00 GiB of decoded images" in done.stdout
