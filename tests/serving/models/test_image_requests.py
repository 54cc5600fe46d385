"""Images of many requests at once, without a server."""

import io

import numpy as np
import pytest
from PIL import Image
from vireo_client.errors import BundleError, DataError, VireoError
from vireo_client.images import load_pixels
from vireo_serving.models import image_requests
from vireo_serving.models.image_requests import ImageRequests

PARTIAL = '{"partial": true}'


def _file(seed, kind="PNG"):
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def _request(*files):
    return np.array([[file] for file in files], dtype=object)


@pytest.fixture(params=[1, 3])
def images(bundle, request):
    requests = ImageRequests(bundle.folder, request.param)
    yield requests
    requests.close()


def test_each_request_gets_its_own_pixels(images, bundle):
    files = [_file(seed) for seed in range(5)]
    expected = [load_pixels(file, bundle.config.image) for file in files]
    one, three, last = images.load(
        [_request(files[0]), _request(*files[1:4]), _request(files[4])], ["", "{}", PARTIAL]
    )
    assert np.array_equal(one.pixels, np.stack(expected[:1]))
    assert np.array_equal(three.pixels, np.stack(expected[1:4]))
    assert np.array_equal(last.pixels, np.stack(expected[4:]))
    for found in (one, three, last):
        count = len(found.pixels)
        assert found.pixels.dtype == np.uint8
        assert (found.readable.shape, found.errors.shape) == ((count, 1), (count, 1))
        assert found.readable.all()
        assert set(found.errors.ravel()) == {b""}
    (alone,) = images.load([_request(files[0])], [""])
    assert np.array_equal(alone.pixels, one.pixels)


def test_a_broken_image_fails_its_request_alone_and_all_are_named(images):
    good, broken, after = images.load(
        [_request(_file(0)), _request(b"", _file(1), b"zzz"), _request(_file(2))], ["", "", ""]
    )
    assert isinstance(broken, DataError)
    assert "image 0: not a readable image (no bytes at all); image 2: not a" in str(broken)
    assert "image 1" not in str(broken)
    assert good.readable.all()
    assert after.readable.all()


@pytest.mark.parametrize(
    ("given", "taken"),
    [(PARTIAL, True), ('{"partial": "true"}', True), ('{"partial": false}', False), ("", False)],
)
def test_a_partial_request_gets_its_readable_images(images, bundle, given, taken):
    (found,) = images.load([_request(_file(0), b"zzz")], [given])
    if not taken:
        assert isinstance(found, DataError)
        return
    assert found.readable.tolist() == [[True], [False]]
    assert np.array_equal(found.pixels[0], load_pixels(_file(0), bundle.config.image))
    assert not found.pixels[1].any()
    assert found.errors[0, 0] == b""
    assert found.errors[1, 0].startswith(b"image 1: not a readable image")


def test_an_error_that_no_image_causes_is_the_servers(images, monkeypatch):
    def fail(value, spec, *, name):
        raise MemoryError(f"{name}: no room")

    monkeypatch.setattr("vireo_serving.models.image_requests.load_pixels", fail)
    (found,) = images.load([_request(_file(0))], [""])
    assert isinstance(found, VireoError)
    assert not isinstance(found, DataError)
    assert "image 0: no room" in str(found)


def test_without_a_bundle_it_says_so(tmp_path):
    with pytest.raises(BundleError):
        ImageRequests(tmp_path, 1)


def _blank(size, kind, **options):
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, kind, **options)
    return buffer.getvalue()


def test_small_files_of_many_pixels_are_refused_before_they_are_decoded(images, monkeypatch):
    large = _blank((1000, 900), "WEBP")
    monkeypatch.setattr(image_requests, "MAX_REQUEST_PIXELS", 1_000_000)
    opened = []
    monkeypatch.setattr(image_requests, "load_pixels", _noting(opened))
    good, refused, partial = images.load(
        [_request(large), _request(large, large), _request(large, large)], ["", "", PARTIAL]
    )
    assert good.readable.all()
    for error in (refused, partial):
        assert isinstance(error, DataError)
        assert "(2) make 1,800,000 pixels to decode, at most 1,000,000 are taken" in str(error)
    assert len(opened) == 1


def _noting(opened):
    def load(value, spec, *, name):
        opened.append(name)
        return load_pixels(value, spec, name=name)

    return load


def test_sixteen_images_of_the_largest_size_are_no_request(images):
    bomb = _blank((16_383, 7_300), "WEBP", lossless=True)
    assert len(bomb) < 10_000
    (refused,) = images.load([_request(*[bomb] * 16)], [""])
    assert "make 1,913,534,400 pixels to decode, at most 120,000,000 are taken" in str(refused)


def test_each_ten_scans_of_a_jpeg_count_as_an_image(images, monkeypatch):
    progressive = _blank((300, 200), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    scan = progressive[last:-2]
    monkeypatch.setattr(image_requests, "MAX_REQUEST_PIXELS", 300 * 200)
    good, bad = images.load(
        [_request(progressive), _request(progressive[:-2] + scan * 100)], ["", ""]
    )
    assert good.readable.all()
    assert "make 660,000 pixels to decode" in str(bad)


def test_a_file_of_too_many_bytes_is_refused_by_name(images, monkeypatch):
    monkeypatch.setattr(image_requests, "MAX_IMAGE_BYTES", 9)
    (refused,) = images.load([_request(b"", b"x" * 10)], [PARTIAL])
    assert str(refused) == "image 1: has 10 bytes, at most 9 are taken; send a smaller one"
