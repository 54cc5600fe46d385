import datetime
import math
import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from vireo_client.errors import DataError
from vireo_client.images import open_image
from vireo_client.index.dates import moment_at, moment_of
from vireo_client.index.file_fields import file_fields, image_fields


def jpeg(exif=None, size=(40, 30), format_="JPEG"):
    file = BytesIO()
    Image.new("RGB", size, "red").save(file, format_, exif=_bytes(exif))
    return file.getvalue()


def _bytes(exif):
    # Pillow forgets the blocks within a block that it is given as an object, in a TIFF.
    return exif.tobytes() if isinstance(exif, Image.Exif) else exif or b""


def camera_exif():
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Canon\0\0", "EOS 5D ", 6
    exif.get_ifd(0x8769).update({0x9003: "2024:05:17 08:30:00", 0x9011: "+07:00"})
    exif.get_ifd(0x8825).update({1: "S", 2: (10.0, 45.0, 36.0), 3: "E", 4: (106.0, 40.0, 12.0)})
    return exif


def status_of(size=123, mtime=1_700_000_000):
    return os.stat_result((0, 0, 0, 0, 0, 0, size, 0, mtime, 0))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_fields_of_a_photo(format_):
    data = jpeg(camera_exif(), format_=format_)
    path = Path("/photos/2024/Huế/IMG_1.jpg")
    fields = image_fields(path, status_of(), data, root=Path("/photos"))
    assert fields == {
        "folder": "2024/Huế/", "name": "IMG_1.jpg", "bytes": 123,
        "modified": "2023-11-14T22:13:20+00:00", "width": 30, "height": 40,
        "make": "Canon", "model": "EOS 5D", "taken": "2024-05-17T08:30:00+07:00",
        "latitude": -10.76, "longitude": 106.67,
    }  # fmt: skip


def test_an_opened_image_gives_the_same_fields_as_its_bytes():
    data = jpeg(camera_exif())
    of_bytes = image_fields(Path("a.jpg"), status_of(), data)
    with Image.open(BytesIO(data)) as opened:
        assert image_fields(Path("a.jpg"), status_of(), opened) == of_bytes


def test_exif_is_read_without_decoding_the_pixels():
    whole = jpeg(camera_exif(), size=(900, 600))
    half = whole[: len(whole) - 800]
    with pytest.raises(DataError):
        open_image(half)
    assert image_fields(Path("a.jpg"), status_of(), half)["make"] == "Canon"


@pytest.mark.parametrize("root", [None, Path("/elsewhere")])
def test_the_folder_of_a_file_outside_the_root_is_absolute(root):
    fields = image_fields(Path("/photos/a/b.jpg"), status_of(), root=root)
    assert fields["folder"] == "/photos/a/"


def test_the_root_itself_is_the_empty_folder():
    assert image_fields(Path("/p/b.jpg"), status_of(), root=Path("/p"))["folder"] == ""


def exif_with(ifd, **tags):
    exif = camera_exif()
    exif.get_ifd(ifd).update({int(key[1:]): value for key, value in tags.items()})
    return exif


@pytest.mark.parametrize(
    ("exif", "missing"),
    [
        (exif_with(0x8769, _36867="0000:00:00 00:00:00"), {"taken"}),
        (exif_with(0x8769, _36867="2024:02:30 08:30:00"), {"taken"}),
        (exif_with(0x8769, _36867="in May"), {"taken"}),
        (exif_with(0x8825, _1="Q"), {"latitude", "longitude"}),
        (exif_with(0x8825, _2=(95.0, 0.0, 0.0)), {"latitude", "longitude"}),
        (exif_with(0x8825, _4=(106.0, 40.0, IFDRational(0, 0))), {"latitude", "longitude"}),
    ],
)
def test_what_makes_no_sense_in_the_exif_is_left_out(exif, missing):
    fields = image_fields(Path("a.jpg"), status_of(), jpeg(exif))
    assert {"taken", "latitude", "longitude", "make"} - set(fields) == missing


def test_a_broken_distance_to_utc_costs_the_distance_alone():
    fields = image_fields(Path("a.jpg"), status_of(), jpeg(exif_with(0x8769, _36881="+99:99")))
    assert fields["taken"] == "2024-05-17T08:30:00"


def test_a_block_that_is_no_exif_is_never_fatal():
    fields = image_fields(Path("a.jpg"), status_of(), jpeg(b"Exif\0\0MM\0*\xff\xff\xff\xff\1\2\3"))
    assert fields["width"] == 40
    assert "make" not in fields


@pytest.mark.parametrize("data", [b"", b"no image", jpeg()[:30]])
def test_bytes_that_are_no_image_have_the_fields_of_their_file(data):
    fields = image_fields(Path("a.jpg"), status_of(), data)
    assert set(fields) == {"folder", "name", "bytes", "modified"}


@pytest.mark.parametrize("seconds", [1e18, -1e18, 1e300])
def test_a_time_that_no_calendar_has_is_left_out(seconds):
    assert file_fields(Path("/a/b.jpg"), 7, seconds) == {
        "folder": "/a/",
        "name": "b.jpg",
        "bytes": 7,
    }


def test_times_are_stored_as_other_dates_are():
    for seconds in (0, 1_700_000_000.9, -62_135_596_800, 253_402_300_799):
        moment = datetime.datetime.fromtimestamp(math.floor(seconds), datetime.timezone.utc)
        assert moment_at(seconds) == moment_of(moment)
