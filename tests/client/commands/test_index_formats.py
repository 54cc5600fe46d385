"""What `vireo index` shows of a folder that holds more than sound photos."""

import struct

import pytest
from PIL import Image
from support.processes import run_python


def _vireo(*arguments):
    program = "from vireo_client.cli import main; main()"
    return run_python("-c", program, *arguments)


@pytest.mark.parametrize("verbose", [False, True])
def test_warnings_of_libraries_are_for_those_who_ask(repository, tmp_path, verbose):
    folder = tmp_path / "my photos"
    folder.mkdir()
    entry = struct.pack("<HHII", 0x010E, 2, 1000, 50)  # a text that ends behind the block's end
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    Image.new("RGB", (40, 30), "red").save(folder / "a.jpg", exif=exif)
    (folder / "film.mp4").write_bytes(b"x")
    (folder / "dead.jpg").symlink_to(folder / "gone.jpg")
    options = ["-v"] if verbose else []
    done = _vireo(
        *options, "index", folder, "--model", repository.folder, "--index", tmp_path / "i"
    )
    assert done.returncode == 0, done.stderr
    assert "1 images added" in done.stdout
    assert "1 skipped" in done.stdout
    assert "1 videos" in done.stderr
    assert "a link to nothing" in done.stderr
    assert ("UserWarning" in done.stderr) == verbose
