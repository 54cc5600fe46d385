import sqlite3
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vireo_client.errors import DataError
from vireo_client.index import metadata, words
from vireo_client.index.metadata import ImageFields
from vireo_client.index.words import ImageWords


def database(images=()):
    db = sqlite3.connect(":memory:", isolation_level=None)
    for statement in (*metadata.SCHEMA, *words.SCHEMA):
        db.execute(statement)
    words.write(db, images)
    return db


def found(db, text, k=100, allowed=None):
    return [image_id for image_id, _ in words.search(db, text, k, allowed)]


PHOTOS = [
    ImageWords(1, "/p/cho-ben-thanh_01.jpg"),
    ImageWords(2, "/p/IMG_2.jpg", ("Người ta đi chợ Bến Thành vào buổi sáng để mua rau và cá",)),
    ImageWords(3, "/p/IMG_3.jpg", ("một con chó", "con bò đứng cho chó ăn"), ("Nông trại",)),
    ImageWords(4, "C:\\p\\đường phố.PNG", ("xe đi trên đường", "máy ảnh")),
    ImageWords(5, "/p/IMG_5.jpg", ("xe máy trên đường",)),
]


@pytest.fixture
def db():
    db = database(PHOTOS)
    yield db
    db.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chợ Bến Thành", {1, 2, 3}),  # and "chó"
        ("Bến Thành", {1, 2}),
        ("BẾN THÀNH", {1, 2}),
        ("ben thanh", {1, 2}),
        (unicodedata.normalize("NFD", "bến thành"), {1, 2}),
        ("duong", {4, 5}),
        ("đường", {4, 5}),
        ("ðường", {4, 5}),  # the Icelandic letter
        ("nông trại", {3}),
        ("IMG", {2, 3, 5}),
        ("jpg", set()),
        ("con voi", {3}),
        ("voi", set()),
        ("😀 voi", set()),
        ("bò😀", {3}),
        ("x" * 20_000, set()),
    ],
)
def test_what_words_find(db, text, expected):
    assert set(found(db, text)) == expected


def test_another_place_of_the_tone_is_the_same_word():
    db = database([ImageWords(1, "a.jpg", ("hòa bình",)), ImageWords(2, "b.jpg", ("hoà thuận",))])
    assert set(found(db, "hòa")) == set(found(db, "hoà")) == {1, 2}
    db.close()


@pytest.mark.parametrize("text", [
    'bò"', '"', "bò*", "^bò", "bò AND", "NEAR(bò voi, 2)", "bò OR", "NOT bò", "written : bò",
    "bò -con", "{bò", "(bò", "bò + con", "bò'; DROP TABLE words; --", "bò\0", "bò \ud800",
])  # fmt: skip
def test_operators_of_fts5_are_words_like_others(db, text):
    if text == '"':
        with pytest.raises(DataError, match="needs a word"):
            found(db, text)
    else:
        assert 3 in found(db, text)


@pytest.mark.parametrize("text", ["", "  ", "!?", "😀", "\0", '""'])
def test_a_query_without_words_is_an_error(db, text):
    with pytest.raises(DataError, match="needs a word"):
        found(db, text)


def test_a_hit_with_the_same_diacritics_ranks_above_a_folded_one(db):
    assert found(db, "chợ bến thành")[:2] == [2, 1]
    assert found(db, "cho ben thanh")[0] == 1
    # However short the folded text is, and however long the exact one.
    long = "bò " + " ".join(f"chữ{n}" for n in range(60))
    others = [ImageWords(n, f"{n}.jpg", ("trời xanh",)) for n in range(10, 30)]
    db = database([ImageWords(1, "1.jpg", ("bơ",)), ImageWords(2, "2.jpg", (long,)), *others])
    assert found(db, "bò") == [2, 1]
    db.close()


def test_the_two_syllables_of_a_word_side_by_side_rank_above_the_same_apart(db):
    assert found(db, "xe máy")[0] == 5
    assert found(db, "xe may")[0] == 5


def test_an_image_is_as_good_as_the_best_of_its_captions():
    many = tuple(f"con mèo số {n}" for n in range(20))
    db = database([ImageWords(1, "a.jpg", (*many, "con chó đen")), ImageWords(2, "b.jpg", many)])
    ranked = words.search(db, "con chó đen", 10)
    assert [image_id for image_id, _ in ranked] == [1, 2]
    alone = words.search(db, "con chó đen", 1)
    assert alone == ranked[:1]
    db.close()


def test_allowed_images_alone_are_returned(db):
    assert found(db, "đường", allowed=np.array([1, 5])) == [5]
    assert found(db, "đường", allowed=np.array([], dtype=np.int64)) == []


def test_frequent_words_are_left_out_only_where_no_filter_asks_for_them(monkeypatch):
    monkeypatch.setattr(words, "CANDIDATES", 5)
    images = [ImageWords(n, f"{n}.jpg", (f"người {n}",)) for n in range(1, 21)]
    db = database([*images, ImageWords(30, "30.jpg", ("voi",))])
    assert found(db, "người voi") == [30]
    assert len(found(db, "người")) == 20  # rather than nothing
    assert found(db, "người voi", allowed=np.array([3, 4])) == [3, 4]
    db.close()


def test_removed_images_are_not_found_and_others_are(db):
    words.remove(db, [3, 99])
    assert found(db, "con bò") == []
    assert set(found(db, "đường")) == {4, 5}
    words.write(db, [ImageWords(3, "/p/new.jpg", ("con mèo",))])
    assert found(db, "con mèo") == [3]
    db.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def test_a_rolled_back_transaction_changes_nothing(db):
    db.execute("BEGIN")
    words.remove(db, [3])
    words.write(db, [ImageWords(9, "/p/new.jpg", ("con mèo",))])
    db.execute("ROLLBACK")
    assert found(db, "con") == [3]


def test_more_captions_than_numbers_are_joined():
    db = database(
        [ImageWords(1, "a.jpg", [f"chữ{n}" for n in range(3_000)]), ImageWords(2, "b.jpg")]
    )
    assert found(db, "chữ0") == found(db, "chữ2999") == [1]
    assert found(db, "b") == [2]
    words.remove(db, [1])
    assert found(db, "chữ2999") == []
    db.close()


def test_rebuilding_gives_what_writing_gave(db):
    db.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, path)")
    db.execute("CREATE TABLE captions (id INTEGER PRIMARY KEY, image_id, text)")
    for image in PHOTOS:
        db.execute("INSERT INTO images VALUES (?, ?)", (image.image_id, image.path))
        rows = [(image.image_id, text) for text in image.captions]
        db.executemany("INSERT INTO captions (image_id, text) VALUES (?, ?)", rows)
    metadata.write(db, [ImageFields(3, "3", {"place": "Nông trại", "n": 1, "make": "Canon"})])
    queries = ("chợ bến thành", "con bò", "nông trại", "đường", "canon 1")
    before = [words.search(db, query, 10) for query in queries]
    words.write(db, [ImageWords(77, "/p/stray.jpg")])
    words.rebuild(db)
    assert [words.search(db, query, 10) for query in queries] == before
    assert found(db, "stray") == []


SYLLABLES = st.sampled_from(["bò", "bo", "bơ", "chó", "cho", "đi", "di", "xe", "máy", "may"])
TEXTS = st.lists(SYLLABLES, min_size=1, max_size=5).map(" ".join)
IMAGES = st.lists(st.lists(TEXTS, max_size=3), max_size=8)


@settings(max_examples=150, deadline=None)
@given(IMAGES, TEXTS, st.sets(st.integers(1, 8)))
def test_every_image_with_a_word_of_the_query_is_found_and_no_other(captions, query, allowed):
    db = database([ImageWords(n, f"{n}.jpg", texts) for n, texts in enumerate(captions, 1)])
    wanted = set(words.fold(query).split())
    expected = {
        n
        for n, texts in enumerate(captions, 1)
        if wanted & set(words.fold(" ".join(texts)).split())
    }
    ranked = words.search(db, query, 100)
    assert {image_id for image_id, _ in ranked} == expected
    assert ranked == sorted(ranked, key=lambda hit: (-hit[1], hit[0]))
    assert words.search(db, query, 2) == ranked[:2]
    some = np.array(sorted(allowed), dtype=np.int64)
    assert words.search(db, query, 100, some) == [hit for hit in ranked if hit[0] in allowed]
    db.close()
