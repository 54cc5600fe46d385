"""The files of the index, and nothing else; their thumbnails; a zip of several."""

import io
import os
import struct
import tarfile
import zipfile
from zlib import compress, crc32

import numpy as np
import pytest
from PIL import Image
from support.clients import write_photo_index
from vireo_client.embedder import Embedder
from vireo_client.index import IndexWriter
from vireo_client.indexing.pipeline import index_images
from vireo_client.indexing.sources import list_images
from vireo_client.towers.onnx import OnnxTowers
from vireo_web.settings import Limits


@pytest.fixture
def own(tmp_path, repository):
    """Return an index whose images may be changed."""
    (tmp_path / "own").mkdir()
    return write_photo_index(tmp_path / "own", repository)


def _ids(client):
    matches = client.get("/v1/search", params={"q": "ảnh", "k": 100}).json()["matches"]
    return {match["name"]: match["id"] for match in matches}


def _index(source, folder, repository):
    with (
        Embedder(repository, OnnxTowers.from_repository(repository)) as embedder,
        IndexWriter(folder, repository) as writer,
    ):
        index_images(writer, embedder, list_images(source)[0])
    return folder


def test_an_image_is_served_as_it_is(client, made):
    answer = client.get(f"/v1/images/{_ids(client)['3.png']}")
    assert answer.content == (made.parent / "photos" / "3.png").read_bytes()
    assert answer.headers["content-type"] == "image/png"
    etag = answer.headers["etag"]
    part = client.get("/v1/images/1", headers={"range": "bytes=0-3"})
    assert part.status_code == 206
    assert len(part.content) == 4
    assert etag


def test_its_type_is_told_by_its_bytes_and_not_by_its_name(own, serve):
    client = serve(own)
    id_ = _ids(client)["3.png"]
    Image.new("RGB", (5, 5)).save(own.parent / "photos" / "3.png", "JPEG")
    assert client.get(f"/v1/images/{id_}").headers["content-type"] == "image/jpeg"
    assert client.get(f"/v1/images/{id_}/info").json()["changed"] is True


@pytest.mark.parametrize(
    "contents",
    [b"<html><script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"",
     b"\x89PNG\r\n\x1a\n broken"],
)  # fmt: skip
def test_what_is_no_image_any_more_is_not_served(own, serve, refused, contents):
    client = serve(own)
    id_ = _ids(client)["3.png"]
    (own.parent / "photos" / "3.png").write_bytes(contents)
    refused(client.get(f"/v1/images/{id_}"), 410, "GoneError")
    refused(client.get(f"/v1/images/{id_}/thumbnail"), 410, "GoneError")
    assert client.get(f"/v1/images/{id_}/info").json()["present"] is False


def test_a_deleted_file_and_one_that_may_not_be_read_are_told(own, serve, refused):
    client = serve(own)
    ids = _ids(client)
    (own.parent / "photos" / "3.png").unlink()
    problem = refused(client.get(f"/v1/images/{ids['3.png']}"), 410, "GoneError")
    assert "index its folder again" in problem["hint"]
    refused(client.get(f"/v1/images/{ids['3.png']}/thumbnail"), 410)
    os.unlink(own.parent / "photos" / "4.png")
    os.mkfifo(own.parent / "photos" / "4.png")  # would wait for its writer
    refused(client.get(f"/v1/images/{ids['4.png']}"), 410)
    refused(client.get(f"/v1/images/{ids['4.png']}/thumbnail"), 410)


@pytest.mark.parametrize(
    "path",
    ["/v1/images/..%2f..%2fetc%2fpasswd", "/v1/images/../../etc/passwd", "/v1/images/%00",
     "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/v1/images/-1",
     "/v1/images/1/../../../../etc/passwd", "/static//etc/passwd", "/v1/images/1e3",
     "/v1/images/99999999999999999999999999"],
)  # fmt: skip
def test_no_path_leads_out(client, path):
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    assert b"root:" not in answer.content
    assert b"create_app" not in answer.content


def test_a_thumbnail_is_small_and_kept(client, made, tmp_path):
    id_ = _ids(client)["3.png"]
    first = client.get(f"/v1/images/{id_}/thumbnail", params={"size": 128})
    assert first.headers["content-type"] == "image/jpeg"
    assert max(Image.open(io.BytesIO(first.content)).size) <= 128
    kept = list((tmp_path / "cache").glob("??/*.jpg"))
    assert len(kept) == 1
    kept[0].write_bytes(b"kept")  # shows that the second answer comes from there
    assert client.get(f"/v1/images/{id_}/thumbnail", params={"size": 100}).content == b"kept"
    tagged = {"if-none-match": first.headers["etag"]}
    again = client.get(f"/v1/images/{id_}/thumbnail?size=128", headers=tagged)
    assert again.status_code == 304
    assert not again.content


def test_a_large_photo_is_turned_upright_and_keeps_its_colours(tmp_path, repository, serve):
    """It is decoded at a reduced scale, which must not show."""
    (tmp_path / "large").mkdir()
    photo = Image.new("RGB", (1600, 1200), "red")
    photo.paste("blue", (800, 0, 1600, 1200))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    photo.save(tmp_path / "large" / "a.jpg", quality=95, exif=exif)
    photo.convert("CMYK").save(tmp_path / "large" / "b.jpg", quality=95)
    client = serve(_index(tmp_path / "large", tmp_path / "index", repository))
    ids = _ids(client)
    upright, wide = (
        Image.open(io.BytesIO(client.get(f"/v1/images/{ids[name]}/thumbnail?size=128").content))
        for name in ("a.jpg", "b.jpg")
    )
    assert upright.size == (96, 128)
    assert upright.getpixel((48, 20))[0] > 200
    assert upright.getpixel((48, 108))[2] > 200
    assert wide.size == (128, 96)
    assert wide.getpixel((20, 48))[0] > 200


def test_a_changed_file_has_another_thumbnail(own, serve):
    client = serve(own)
    id_ = _ids(client)["3.png"]
    before = client.get(f"/v1/images/{id_}/thumbnail")
    Image.new("RGB", (40, 30), "red").save(own.parent / "photos" / "3.png")
    after = client.get(f"/v1/images/{id_}/thumbnail")
    assert before.headers["etag"] != after.headers["etag"]
    assert Image.open(io.BytesIO(after.content)).getpixel((5, 5))[0] > 200


def test_thumbnails_take_no_more_than_they_may(serve, made, tmp_path):
    client = serve(made, cache_bytes=5_000)
    for id_ in _ids(client).values():
        for size in (128, 256, 512):
            assert client.get(f"/v1/images/{id_}/thumbnail?size={size}").status_code == 200
    files = list((tmp_path / "cache").glob("??/*.jpg"))
    assert files
    assert sum(file.stat().st_size for file in files) <= 5_000


def test_a_cache_that_cannot_be_written_costs_nothing_else(serve, made, tmp_path):
    (tmp_path / "cache").write_text("a file in the place of the folder")
    client = serve(made)
    assert client.get("/v1/images/1/thumbnail").status_code == 200


@pytest.mark.parametrize("size", [0, -1, 5000, "x"])
def test_an_odd_size_is_refused(client, refused, size):
    refused(client.get("/v1/images/1/thumbnail", params={"size": size}), 422)


def test_odd_names_are_text_and_nothing_else(tmp_path, repository, serve):
    names = ["<script>alert(1)<.png", 'a"b\r\nX: y.png', "ảnh đẹp 🐕.png", "a..png..png"]
    (tmp_path / "odd").mkdir()
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 255, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "odd" / name, "PNG")
    index = _index(tmp_path / "odd", tmp_path / "index", repository)
    client = serve(index)
    ids = _ids(client)
    assert set(names) == set(ids)
    for id_ in ids.values():
        answer = client.get(f"/v1/images/{id_}")
        assert answer.status_code == 200
        assert "x" not in answer.headers
        assert answer.headers["content-disposition"].startswith("inline;")
    answer = client.get("/v1/search", params={"q": "ảnh"})
    assert answer.headers["content-type"] == "application/json"


def test_images_within_a_tar_are_served(tmp_path, repository, serve, photo, refused):
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for number in range(3):
            tar.add(photo(f"{number}.png", seed=number), f"in/{number}.png")
    client = serve(_index(tmp_path / "photos.tar", tmp_path / "index", repository))
    id_ = _ids(client)["1.png"]
    assert client.get(f"/v1/images/{id_}").content == (tmp_path / "1.png").read_bytes()
    assert client.get(f"/v1/images/{id_}/thumbnail").status_code == 200
    assert client.get(f"/v1/images/{id_}/info").json()["changed"] is False
    assert client.post("/v1/download", json={"ids": [id_]}).status_code == 200
    (tmp_path / "photos.tar").unlink()
    refused(client.get(f"/v1/images/{id_}"), 410, "GoneError")


def test_a_zip_holds_the_files_and_names_those_that_are_gone(own, serve):
    client = serve(own)
    ids = _ids(client)
    (own.parent / "photos" / "1.png").unlink()
    asked = [ids["0.png"], ids["1.png"], ids["0.png"], ids["2.png"], 10**9]
    answer = client.post("/v1/download", json={"ids": asked})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["0.png", "2.png", "missing.txt"]
        assert archive.read("0.png") == (own.parent / "photos" / "0.png").read_bytes()
        assert "1.png" in archive.read("missing.txt").decode()


def test_files_of_one_name_have_names_of_their_own_in_a_zip(tmp_path, repository, serve, photo):
    for number in range(3):
        photo(f"photos/{number}/same.png", seed=number)
    client = serve(_index(tmp_path / "photos", tmp_path / "index", repository))
    matches = client.get("/v1/search", params={"q": "ảnh"}).json()["matches"]
    answer = client.post("/v1/download", json={"ids": [match["id"] for match in matches]})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == ["same (2).png", "same (3).png", "same.png"]


def test_a_zip_is_bounded(serve, made, refused):
    few = serve(made, limits=Limits(download_files=2))
    refused(few.post("/v1/download", json={"ids": [1, 2, 3]}), 422, "DataError")
    small = serve(made, limits=Limits(download_bytes=100))
    refused(small.post("/v1/download", json={"ids": [1, 2]}), 413, "TooLargeError")
    refused(small.post("/v1/download", json={"ids": [10**9]}), 404, "NotFoundError")
    refused(small.post("/v1/download", json={"ids": []}), 422)
    refused(small.post("/v1/download", json={"ids": ["/etc/passwd"]}), 422)


def test_info_of_an_image(client):
    id_ = _ids(client)["3.png"]
    told = client.get(f"/v1/images/{id_}/info").json()
    assert told["captions"] == ["ảnh số 3"]
    assert told["present"] is True
    assert told["changed"] is False
    assert (told["width"], told["height"]) == (80, 60)


def _bomb():
    """Return a PNG of a few bytes that says it has 400 million pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    size = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    pixels = compress(bytes(60_001) * 10)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [b"", b"no image", b"<svg/>", b"\xff\xd8\xff\xe0 broken", b"%!PS-Adobe-3.0 EPSF-3.0\n"],
)
def test_an_upload_that_is_no_image_is_refused(client, refused, data):
    for path in ("/v1/search/image", "/v1/describe", "/v1/embed/image"):
        refused(client.post(path, files={"image": ("x.png", data)}), 422, "ImageError")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(client, refused):
    bomb = _bomb()
    assert len(bomb) < 1 << 20
    problem = refused(client.post("/v1/search/image", files={"image": ("x.png", bomb)}), 422)
    assert "too large" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=image\r\n\r\na", "multipart/form-data"),
        (b"image=3", "application/x-www-form-urlencoded"),
        (b"{}", "application/json"),
    ],
)  # fmt: skip
def test_a_malformed_form_is_refused(client, body, kind):
    answer = client.post("/v1/search/image", content=body, headers={"content-type": kind})
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_removed_image_is_gone_from_the_index(folder, repository, serve, refused):
    client = serve(folder)
    id_ = _ids(client)["3.png"]
    with IndexWriter(folder, repository) as writer:
        writer.remove([path for path in writer.stamps() if path.endswith("3.png")])
        writer.save()
    refused(client.get(f"/v1/images/{id_}"), 404, "NotFoundError")
    assert "3.png" not in _ids(client)
