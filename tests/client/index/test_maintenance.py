"""Information about an index, its verification and repair, and snapshots."""

import json
import random
import shutil
import sqlite3

import numpy as np
import pytest
from support.small_index import best, new_image, unit, write_small_bundle
from vireo_client.errors import IndexLocked, SearchIndexError, VireoError
from vireo_client.index import Index, IndexWriter, storage
from vireo_client.index.bundle_files import open_bundle
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.maintenance import info, snapshot, verify

_COUNT = 300


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Images 0 to 299 of the seeds 1 to 300 in a graph, ten behind it, five removed."""
    folder = tmp_path_factory.mktemp("made") / "i"
    small_bundle = write_small_bundle(folder.with_name("model_repository"))
    with IndexWriter(folder, small_bundle) as writer:
        writer.add(
            [
                new_image(f"/p/{n}.jpg", n + 1, captions=n % 2)._replace(
                    fields={"make": "Canon", "note": f"ghi chú {n}", "iso": n}
                )
                for n in range(_COUNT)
            ]
        )
        writer.compact("hnsw", 0.9)
        writer.add([new_image(f"/p/{n}.jpg", n + 1) for n in range(_COUNT, _COUNT + 10)])
        writer.remove([f"/p/{n}.jpg" for n in range(5)])
        writer.save()
    return folder


@pytest.fixture
def index(made, tmp_path, small_bundle):
    shutil.copytree(made, tmp_path / "i")
    return tmp_path / "i"


def _right(folder, bundle):
    """Return the paths that are found; each must have the embedding of its number."""
    found = set()
    queries = np.stack([unit(n + 1) for n in range(_COUNT + 10)])
    with Index(folder, bundle) as opened:
        for number, matches in enumerate(opened.search_images(queries, 1, min_score=0.99)):
            for match in matches:
                assert match.path == f"/p/{number}.jpg"
                found.add(match.path)
        assert len(found) == len(opened)
    return found


def test_a_catalogue_that_another_program_holds_is_an_error_and_no_damage(
    index, small_bundle, tmp_path, monkeypatch
):
    connect = sqlite3.connect
    holder = connect(index / CATALOGUE_FILE, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{"timeout": 0.05, **k}))
    for use in (
        lambda: Index(index, small_bundle),
        lambda: IndexWriter(index, small_bundle),
        lambda: info(index),
        lambda: verify(index),
        lambda: verify(index, repair=True),
        lambda: snapshot(index, tmp_path / "copy"),
    ):
        with pytest.raises(IndexLocked, match="another process holds it for too long"):
            use()
    holder.close()
    assert verify(index).is_whole
    assert _right(index, small_bundle) == ALL
    assert not (tmp_path / "copy").exists()


ALL = {f"/p/{n}.jpg" for n in range(5, _COUNT + 10)}


def test_a_whole_index_is_verified(index, small_bundle):
    verification = verify(index)
    assert verification.is_whole
    assert verification.problems == []
    assert verify(index, repair=True).problems == []
    assert _right(index, small_bundle) == ALL


def test_info_tells_what_an_index_holds(index, small_bundle):
    told = info(index)
    assert (told.images, told.captions, told.removed) == (305, 148, 7)
    assert told.kinds == {"images": "hnsw", "captions": "flat"}
    assert told.recall["images"] >= 0.9
    assert told.bundle_id == small_bundle.bundle_id
    assert (told.generation, told.schema) == (3, 2)
    assert told.files[CATALOGUE_FILE] == (index / CATALOGUE_FILE).stat().st_size
    assert sum(told.segments.values()) == 310 + 150
    assert 64 * 4 < told.bytes_per_vector < 64 * 4 + 600
    assert told.bytes == sum(p.stat().st_size for p in index.rglob("*") if p.is_file())


@pytest.mark.parametrize("use", [info, verify, lambda folder: snapshot(folder, folder / "s")])
def test_where_there_is_no_index_it_says_so(tmp_path, use):
    with pytest.raises(SearchIndexError, match="no index here"):
        use(tmp_path)


def _flip(path, draw):
    data = bytearray(path.read_bytes())
    position = draw.randrange(len(data))
    data[position] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def _logical(folder):
    """Return all that the catalogue says, for flips in bytes that nothing uses."""
    with sqlite3.connect(folder / CATALOGUE_FILE) as db:
        tables = ("meta", "images", "captions", "segments", "removed", "fields", "columns",
                  "words_content")  # fmt: skip
        dump = [db.execute(f"SELECT * FROM {table}").fetchall() for table in tables]
    db.close()
    return dump


_SEGMENT_FILES = ["*.ids.npy", "*.vectors.npy", "*.crc32.npy", "*.hnsw.faiss"]


@pytest.mark.parametrize("pattern", _SEGMENT_FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "delete"])
def test_a_damaged_file_of_a_segment_is_named_and_repaired(index, small_bundle, pattern, damage):
    draw = random.Random(f"{pattern} {damage}")
    for turn in range(5 if damage in ("flip", "cut") else 1):
        folder = index.with_name(f"damaged-{turn}")
        shutil.copytree(index, folder)
        path = draw.choice(sorted((folder / "segments").glob(f"images{pattern}")))
        if damage == "flip":
            _flip(path, draw)
        elif damage == "delete":
            path.unlink()
        else:
            size = draw.randrange(path.stat().st_size) if damage == "cut" else 0
            path.write_bytes(path.read_bytes()[:size])
        problems = verify(folder).problems
        assert path.name in problems[0].where
        verification = verify(folder, repair=True)
        assert verification.repaired
        assert verification.problems == problems
        assert verify(folder).problems == []
        found = _right(folder, small_bundle)
        assert found == ALL - set(verification.lost)
        assert set(verification.lost) <= ALL
        if damage == "flip" or pattern == "*.hnsw.faiss":
            assert len(verification.lost) <= 1
        # What is lost is added again.
        with IndexWriter(folder, small_bundle) as writer:
            writer.add([new_image(p, int(p[3:-4]) + 1) for p in verification.lost])
            writer.save()
        assert verify(folder).problems == []
        assert _right(folder, small_bundle) == ALL


@pytest.mark.parametrize("seed", range(30))
def test_a_flipped_bit_of_the_catalogue_is_found_or_does_no_harm(index, small_bundle, seed):
    before = _logical(index)
    draw = random.Random(seed)
    _flip(index / CATALOGUE_FILE, draw)
    problems = verify(index).problems
    if not problems:
        assert _logical(index) == before
        assert _right(index, small_bundle) == ALL
        return
    if "schema" in str(problems) or "not a database" in str(problems):  # SQLite reads nothing
        with pytest.raises(SearchIndexError, match="bring a snapshot back"):
            verify(index, repair=True)
        return
    verification = verify(index, repair=True)
    assert verify(index).problems == []
    # All but those on one page of 4096 bytes, whose paths may be lost with it.
    gone = ALL - _right(index, small_bundle)
    assert set(verification.lost) & ALL <= gone
    assert len(gone) < 60
    with IndexWriter(index, small_bundle) as writer:
        writer.add([new_image(path, int(path[3:-4]) + 1) for path in gone])
        writer.save()
    assert verify(index).problems == []
    assert _right(index, small_bundle) == ALL


@pytest.mark.parametrize("table", ["images", "captions", "fields", "words_data", "removed"])
@pytest.mark.parametrize("seed", range(2))
def test_a_broken_page_costs_its_rows(index, small_bundle, table, seed):
    with sqlite3.connect(index / CATALOGUE_FILE) as db:
        ((page,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
        ((size,),) = db.execute("PRAGMA page_size")
        ((pages,),) = db.execute("PRAGMA page_count")
    db.close()
    page = [page, min(pages, page + 3)][seed]
    with (index / CATALOGUE_FILE).open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(random.Random(seed).randbytes(size))
    assert verify(index).problems
    if (table, seed) == ("images", 0):  # no path is left
        with pytest.raises(SearchIndexError, match="too little of it can be read"):
            verify(index, repair=True)
        return
    lost = verify(index, repair=True).lost
    assert verify(index).problems == []
    gone = ALL - _right(index, small_bundle)
    assert set(lost) <= gone
    with IndexWriter(index, small_bundle) as writer:
        writer.add([new_image(path, int(path[3:-4]) + 1) for path in gone])
        writer.save()
    assert verify(index).problems == []
    assert _right(index, small_bundle) == ALL


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_catalogue_is_an_error_that_says_what_to_do(index, small_bundle, seed):
    path = index / CATALOGUE_FILE
    path.write_bytes(path.read_bytes()[: random.Random(seed).randrange(1, path.stat().st_size)])
    assert verify(index).problems
    with pytest.raises(SearchIndexError, match="snapshot"):
        verify(index, repair=True)
    assert not list(index.glob("*.recovered"))


@pytest.mark.parametrize(
    ("statement", "lost"),
    [
        ("UPDATE images SET path = '/q/7.jpg' WHERE path = '/p/7.jpg'", ["/q/7.jpg"]),
        ("UPDATE images SET mtime_ns = 2 WHERE path = '/p/7.jpg'", ["/p/7.jpg"]),
        ("UPDATE captions SET text = text || '.' WHERE text LIKE '/p/7.%'", ["/p/7.jpg"]),
        ("UPDATE fields SET make = 'Cannon' WHERE name = '7.jpg'", ["/p/7.jpg"]),
        ("DELETE FROM captions WHERE text LIKE '/p/7.%'", ["/p/7.jpg"]),
        ("DELETE FROM images WHERE path = '/p/8.jpg'", []),
        ("DELETE FROM removed", []),
        ("UPDATE removed SET row = 9999 WHERE row = 1", []),
        ("UPDATE segments SET kind = 'flat'", []),
        ("UPDATE meta SET value = '1' WHERE key = 'next_image_id'", []),
        ("UPDATE meta SET value = 'another' WHERE key = 'bundle_id'", []),
        ("UPDATE meta SET value = '17' WHERE key = 'images'", []),
        ("DELETE FROM words_content WHERE id > 20000", []),
    ],
)  # fmt: skip
def test_a_changed_row_is_found_and_repaired(index, small_bundle, statement, lost):
    with sqlite3.connect(index / CATALOGUE_FILE) as db:
        db.execute(statement)
    db.close()
    assert verify(index).problems
    verification = verify(index, repair=True)
    assert verification.lost == lost
    assert verify(index).problems == []
    gone = {"/p/7.jpg"} if lost else {"/p/8.jpg"} if "'/p/8.jpg'" in statement else set()
    assert _right(index, small_bundle) == ALL - gone
    with IndexWriter(index, small_bundle) as writer:
        writer.add([new_image("/p/7.jpg", 8), new_image("/p/8.jpg", 9)])
        writer.save()
    assert _right(index, small_bundle) == ALL
    assert verify(index).problems == []


def test_a_damaged_embedding_is_not_written_anew(index, small_bundle, monkeypatch):
    monkeypatch.setattr(storage, "CHECKED_BYTES", 0)  # as if it were a large file
    (path,) = (index / "segments").glob("images-2-*.vectors.npy")
    _flip(path, random.Random(3))
    with IndexWriter(index, small_bundle) as writer:
        with pytest.raises(SearchIndexError, match="verify --repair"):
            writer.compact()
    assert len(verify(index).problems) == 1


def test_a_damaged_file_of_the_bundle_is_named(index, small_bundle):
    (index / "bundle" / "vi-vocab").write_text("con_cho")
    (problem,) = verify(index).problems
    assert problem.where == "bundle/vi-vocab"
    assert not verify(index, repair=True).is_whole  # the bundle itself is not at hand
    with IndexWriter(index, small_bundle):
        pass
    assert verify(index).is_whole


def test_a_repair_waits_for_no_writer(index, small_bundle):
    with IndexWriter(index, small_bundle):
        with pytest.raises(IndexLocked):
            verify(index, repair=True)
        assert verify(index).is_whole


def test_a_snapshot_is_an_index_of_its_own(index, small_bundle, tmp_path):
    with IndexWriter(index, small_bundle) as writer:
        writer.add([new_image("later.jpg", 999)])  # is not saved
        state = snapshot(index, tmp_path / "far" / "away")
        writer.save()
        writer.compact()
    assert (state.images, state.generation) == (305, 3)
    copy = tmp_path / "far" / "away"
    assert verify(copy).is_whole
    assert _right(copy, small_bundle) == ALL
    assert open_bundle(copy, engines=True).folder == small_bundle.folder.resolve()
    for target in (copy, index, tmp_path):
        with pytest.raises(VireoError, match="holds files"):
            snapshot(index, target)
    with IndexWriter(copy, small_bundle) as writer:
        writer.remove(["/p/9.jpg"])
        writer.save()
    with Index(index, small_bundle) as opened:
        assert best(opened, 10) == ("/p/9.jpg", 1)


def test_a_snapshot_beside_a_compaction_is_of_one_state(index, small_bundle, tmp_path, monkeypatch):
    plain, copied = shutil.copyfile, []

    def copyfile(source, target, **options):
        if not copied:
            with IndexWriter(index, small_bundle) as writer:
                writer.compact()
        copied.append(source)
        return plain(source, target, **options)

    monkeypatch.setattr("vireo_client.index.maintenance.shutil.copyfile", copyfile)
    assert snapshot(index, tmp_path / "s").generation == 4
    assert verify(tmp_path / "s").is_whole
    names = {p.name for p in (tmp_path / "s" / "segments").iterdir()}
    assert names == {p.name for p in (index / "segments").iterdir()}


def test_bundle_digests_are_noted(index):
    with sqlite3.connect(index / CATALOGUE_FILE) as db:
        ((noted,),) = db.execute("SELECT value FROM meta WHERE key = 'bundle_files'").fetchall()
    db.close()
    assert set(json.loads(noted)) == {"bundle.json", "tokenizer.json", "vi-vocab"}
