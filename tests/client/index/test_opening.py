"""What opening an index refuses: damage that would give other answers, and what would run."""

import json
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from support.small_index import new_image, unit, write_small_bundle
from vireo_client.errors import SearchIndexError
from vireo_client.index import Index, IndexWriter, digests, opening, storage
from vireo_client.index.catalogue import CATALOGUE_FILE


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Twenty images, two of them removed."""
    folder = tmp_path_factory.mktemp("made") / "i"
    with IndexWriter(folder, write_small_bundle(folder.with_name("model_repository"))) as writer:
        images = [new_image(f"/p/{n}.jpg", n, captions=1) for n in range(20)]
        writer.add([image._replace(fields={"note": "ghi chú"}) for image in images])
        writer.save()
        writer.remove(["/p/3.jpg", "/p/4.jpg"])
        writer.save()
    return folder


@pytest.fixture
def index(made, tmp_path):
    shutil.copytree(made, tmp_path / "i")
    return tmp_path / "i"


def _change(folder, *statements, seal=False):
    with closing(sqlite3.connect(folder / CATALOGUE_FILE, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)
        if seal:  # as a stranger would who makes an index
            digests.seal(db)
            whole = digests.of_tables(db)
            db.execute("UPDATE meta SET value = ? WHERE key = ?", (whole, digests.KEY))


def _files(folder):
    return {path.name for path in folder.glob("segments/*")}


def _damage_vector(folder, row, value):
    (path,) = folder.glob("segments/images-1-*.vectors.npy")
    vectors = np.load(path, mmap_mode="r+")
    vectors[row, 0] = value
    vectors.flush()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM meta WHERE key = 'generation'",
        "DELETE FROM meta WHERE key = 'digest'",
        "UPDATE meta SET value = '0' WHERE key = 'generation'",
        "UPDATE meta SET value = 'x' WHERE key = 'images'",
        "DELETE FROM segments",
        "DROP TABLE segments",
        "DROP TABLE meta",
        "UPDATE removed SET row = 7 WHERE row = 3",
        "UPDATE removed SET row = 'x' WHERE row = 3",
        "UPDATE images SET path = '/p/7.jpg.' WHERE path = '/p/7.jpg'",
        "UPDATE captions SET text = 'con chó' WHERE id = 9",
        "UPDATE fields SET user_1 = 'another' WHERE name = '7.jpg'",
        "DELETE FROM words_content WHERE id > 10000",
        "UPDATE words_data SET block = x'00' WHERE id > 10",
    ],
)
def test_what_would_give_other_answers_is_refused(index, small_bundle, statement):
    before = _files(index)
    _change(index, statement)
    with pytest.raises(SearchIndexError):
        Index(index, small_bundle)
    with pytest.raises(SearchIndexError):
        IndexWriter(index, small_bundle)
    assert _files(index) == before


def test_a_damaged_embedding_is_refused(index, small_bundle):
    _damage_vector(index, 7, 4e36)
    with pytest.raises(SearchIndexError, match=r"vectors\.npy: damaged.*--repair"):
        Index(index, small_bundle)


def test_in_a_large_file_a_damaged_embedding_is_refused_when_it_is_found(
    index, small_bundle, monkeypatch
):
    monkeypatch.setattr(storage, "CHECKED_BYTES", 0)
    _damage_vector(index, 7, 4e36)
    with Index(index, small_bundle) as opened:
        with pytest.raises(SearchIndexError, match=r"an embedding is damaged.*--repair"):
            opened.search_images(np.abs(unit(0))[None], 1)
        with pytest.raises(SearchIndexError, match="an embedding is damaged"):
            opened.search_images(unit(0)[None], 20, filter="note = 'ghi chú'")
        # The others are found as before.
        assert opened.search_captions(unit(1000)[None], 1)[0][0].path == "/p/1.jpg"


def test_of_a_large_catalogue_rows_are_checked_when_they_are_found(
    index, small_bundle, monkeypatch
):
    monkeypatch.setattr(opening, "SMALL_CATALOGUE", 0)
    _change(index, "UPDATE fields SET user_1 = 'another' WHERE name = '7.jpg'")
    with Index(index, small_bundle) as opened:
        assert opened.search_images(unit(8)[None], 1)[0][0].path == "/p/8.jpg"
        with pytest.raises(SearchIndexError, match=r"the row of an image.*--repair"):
            opened.search_images(unit(7)[None], 1)
        with pytest.raises(SearchIndexError, match="the row of an image"):
            opened.search_captions(unit(7000)[None], 1)
        with pytest.raises(SearchIndexError, match="the row of an image"):
            opened.search_words("7", 1)
    _change(index, "UPDATE meta SET value = 'x' WHERE key = 'next_image_id'")
    with pytest.raises(SearchIndexError, match="its digest is another"):
        Index(index, small_bundle)


def _elsewhere(folder):
    """Name a segment that lies outside of the index, with all that it needs."""
    with closing(sqlite3.connect(folder / CATALOGUE_FILE)) as db:
        ((name, files),) = db.execute(
            "SELECT name, files FROM segments WHERE part = 'images'"
        ).fetchall()
    for path in folder.glob(f"segments/{name}.*"):
        shutil.copy(path, folder.parent)
    there = {f"../../{file}": noted for file, noted in json.loads(files).items()}
    return (
        f"UPDATE segments SET name = '../../{name}', files = '{json.dumps(there)}' "
        "WHERE part = 'images'",
    )


_STRANGE = {
    "a segment elsewhere": _elsewhere,
    "a column that is a statement": lambda _: (
        "UPDATE columns SET sql_name = '(SELECT group_concat(path) FROM images)'",
    ),
    "a view": lambda _: ("CREATE VIEW more AS SELECT * FROM images",),
    "a trigger": lambda _: (
        "CREATE TRIGGER t AFTER INSERT ON images BEGIN DELETE FROM captions; END",
    ),
    "a computed column": lambda _: (
        "ALTER TABLE images ADD COLUMN c AS (zeroblob(500000000)) VIRTUAL",
    ),
    "settings of another type": lambda _: ("UPDATE segments SET settings = '[]'",),
    "settings without end": lambda _: (f"UPDATE segments SET settings = '{'[' * 5000}'",),
    "a kind that needs a file": lambda _: ("UPDATE segments SET kind = 'hnsw'",),
    "no rows": lambda _: ("UPDATE segments SET rows = 0",),
    "rows without end": lambda _: ("UPDATE segments SET rows = 9223372036854775807",),
    "a path that is no text": lambda _: ("UPDATE images SET path = x'ff' WHERE id = 8",),
    "a field that is no text": lambda _: ("UPDATE fields SET make = x'ff' WHERE image_id = 8",),
}


@pytest.mark.parametrize("strange", _STRANGE)
def test_what_a_stranger_wrote_is_neither_run_nor_followed(index, small_bundle, strange):
    _change(index, *_STRANGE[strange](index), seal=True)
    with pytest.raises(SearchIndexError):
        with Index(index, small_bundle) as opened:
            opened.search_images(unit(7)[None], 18)
