import io
import tarfile

import numpy as np
import pytest
from support.tars import pax_header, tar_header
from vireo_client import tars
from vireo_client.errors import DataError
from vireo_client.index import Index
from vireo_client.indexing import archives
from vireo_client.indexing.archives import list_archive


def _write(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1_700_000_000
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def shard(photos, tmp_path):
    one, two, three = ((photos / f"{name}.png").read_bytes() for name in "abc")
    members = [
        ("000/a.png", one),
        ("000/a.txt", "con cá\n\nmàu đỏ\n".encode()),
        ("000/b.png", two),
        ("000/b.json", b'{"caption": "ng\xc3\xb4i nh\xc3\xa0", "score": 0.5, "key": "b"}'),
        ("000/notes.pdf", b"x"),
        ("c.png", three),
    ]
    return _write(tmp_path / "shard.tar", members)


def test_images_of_a_tar_are_indexed_in_place_with_captions_and_metadata(
    shard, photos, index_source, embedder, tmp_path
):
    records, skipped = list_archive(shard)
    assert skipped == []
    assert [(r.captions, dict(r.fields)) for r in records] == [
        (("con cá", "màu đỏ"), {}),
        (("ngôi nhà",), {"score": 0.5, "key": "b"}),
        ((), {}),
    ]
    report = index_source(shard)
    assert (report.added, report.captions, report.skipped) == (3, 3, [])
    assert [path.name for path in tmp_path.iterdir() if "shard" in path.name] == ["shard.tar"]
    with Index(tmp_path / "i", embedder.bundle) as index:
        for name, inner in (("a", "000/a.png"), ("b", "000/b.png"), ("c", "c.png")):
            query = embedder.embed_images([photos / f"{name}.png"])
            ((match,),) = index.search_images(query, 1)
            assert match.path == f"{shard.resolve()}/{inner}"
            assert match.score == pytest.approx(1, abs=1e-4)
    again = index_source(shard)
    assert (again.added, again.unchanged, again.removed) == (0, 3, [])


def test_what_a_tar_no_longer_holds_leaves_the_index_and_what_moved_keeps_its_embedding(
    shard, photos, index_source
):
    index_source(shard)
    index_source(photos)  # the tar lies beside this folder: neither takes the other's images out
    a, b = ((photos / f"{name}.png").read_bytes() for name in "ab")
    _write(shard, [("renamed/a.png", a), ("000/b.png", b + b"\0")])
    report = index_source(shard)
    assert (report.added, len(report.moved), len(report.removed)) == (1, 1, 1)
    assert report.removed == [f"{shard.resolve()}/c.png"]
    assert index_source(photos).unchanged == 6


def test_a_folder_with_a_tar_in_it_leaves_the_tars_images_alone(shard, photos, index_source):
    moved = shard.rename(photos / "shard.tar")
    index_source(moved)
    assert index_source(photos).removed == []
    moved.unlink()
    assert len(index_source(photos).removed) == 3


def test_names_that_leave_the_archive_links_and_doubles_are_refused(photos, tmp_path):
    data = (photos / "a.png").read_bytes()
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("../out.png", "/abs.png", "a/../../b.png", "ok.png", "ok.png"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    records, skipped = list_archive(path)
    assert [r.path.name for r in records] == ["ok.png"]
    assert len(skipped) == 4
    assert sum("leaves the archive" in skip.reason for skip in skipped) == 3


def test_large_members_and_headers_are_refused_unread(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_TEXT_BYTES", 10)
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2000)
    monkeypatch.setattr(tars, "MAX_TEXT_BYTES", 4096)
    data = (photos / "a.png").read_bytes()[:1000]
    members = [("a.png", data), ("a.txt", b"x" * 100), ("b.png", bytes(3000)), ("c.png", data)]
    path = _write(tmp_path / "x.tar", members)
    records, skipped = list_archive(path)
    assert [r.path.name for r in records] == ["a.png", "c.png"]
    assert [r.captions for r in records] == [(), ()]
    assert ["100 bytes of text" in s.reason or "too large" in s.reason for s in skipped] == [
        True
    ] * 2
    # A name of 5000 letters stands in a header of its own, which is read whole.
    _write(tmp_path / "y.tar", [("a.png", data), ("n" * 5000 + ".png", data)])
    records, (skip,) = list_archive(tmp_path / "y.tar")
    assert len(records) == 1
    assert "damaged from here on (a header says 5,0" in skip.reason


@pytest.mark.parametrize(
    "damage",
    [
        tar_header(b"1.jpg", -512),
        tar_header(b"1.jpg", -1024),
        pax_header(size="-1024"),
        tar_header(b"1.jpg", 4 << 30, b"L"),
        tar_header(b"1.jpg", 4 << 30, b"x"),
        pax_header(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
    ],
    ids=["round", "back", "back in a longer header", "a long name", "a long header", "sparse"],
)
def test_a_hostile_header_ends_the_tar_and_not_the_run(damage, photos, tmp_path):
    path = _write(tmp_path / "x.tar", [("a.png", (photos / "a.png").read_bytes())])
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-1]
    whole = path.read_bytes()[: end.offset_data + -(-end.size // 512) * 512]
    path.write_bytes(whole + damage + bytes(1024))
    records, (skip,) = list_archive(path)
    assert [r.path.name for r in records] == ["a.png"]
    assert "damaged from here on" in skip.reason


def test_a_tar_that_is_cut_off_or_damaged_gives_what_it_holds(photos, tmp_path):
    data = [(photos / f"{name}.png").read_bytes() for name in "abc"]
    path = _write(tmp_path / "x.tar", [(f"{n}.png", d) for n, d in zip("abc", data, strict=True)])
    whole = path.read_bytes()
    second = whole.index(b"b.png")
    path.write_bytes(whole[:second] + b"\xff" * 512 + whole[second + 512 :])
    records, (skip,) = list_archive(path)
    assert [r.path.name for r in records] == ["a.png"]
    assert "damaged from here on" in skip.reason
    path.write_bytes(b"nothing of a tar, " * 100)
    with pytest.raises(DataError, match="not a readable tar"):
        list_archive(path)


def test_a_compressed_tar_is_refused_with_what_to_do(photos, tmp_path):
    data = (photos / "a.png").read_bytes()
    path = _write(tmp_path / "x.tar.gz", [("a.png", data)], mode="w:gz")
    with pytest.raises(DataError, match="must be unpacked first"):
        list_archive(path)


def test_an_archive_that_shrinks_after_it_was_listed_costs_its_last_images(
    shard, index_source, embedder, tmp_path
):
    from vireo_client.index import IndexWriter
    from vireo_client.indexing.pipeline import index_images

    records, _ = list_archive(shard)
    with shard.open("r+b") as file:
        file.truncate(records[-1].part.start + 10)
    with IndexWriter(tmp_path / "i", embedder.bundle) as writer:
        report = index_images(writer, embedder, records)
    assert (report.added, len(report.skipped)) == (2, 1)
    assert "the archive ends within it" in report.skipped[0].reason
    assert np.isfinite(report.seconds)


@pytest.mark.parametrize("time", ["inf", "nan", "1e308", "99999999999999", "-99999999999999"])
def test_a_time_that_no_calendar_has_costs_nothing(photos, index_source, tmp_path, time):
    data = (photos / "a.png").read_bytes()
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a.png")
        member.size, member.pax_headers = len(data), {"mtime": time}
        tar.addfile(member, io.BytesIO(data))
    assert index_source(tmp_path / "x.tar").added == 1
    assert index_source(tmp_path / "x.tar").unchanged == 1
