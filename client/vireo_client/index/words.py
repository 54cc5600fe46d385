"""Search by words in an index: captions, file names and the user's texts, ranked by BM25.

SQLite's FTS5 holds every text twice: as written (in NFC, lower case, with the tone marks where
`text/normalize.py` puts them) and folded, without diacritics and with `d` for `đ`. A query matches
both, so that `cho ben thanh` finds `Chợ Bến Thành`; what is written with the same diacritics scores
in both columns, and ranks above. Pairs of neighbouring words score once more: most words of
Vietnamese are two syllables (`xe máy`), and a blank stands between them.

An image is as good as the best of its texts. Its texts are the file's name with the user's texts,
and each caption. (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond",
2009; FTS5's `bm25` has k1 = 1.2 and b = 0.75.)
"""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..text.normalize import normalize
from . import metadata

SCHEMA = (
    """CREATE VIRTUAL TABLE words USING fts5 (
        written, folded, tokenize = "unicode61 remove_diacritics 0"
    )""",
    "INSERT INTO words (words, rank) VALUES ('rank', 'bm25(100.0, 1.0)')",
    "CREATE VIRTUAL TABLE word_counts USING fts5vocab (words, row)",
)
"""The statements that make the tables. A hit as written weighs so much that a
long caption which has it stays above a short one with the folded word alone. `word_counts` stores
nothing itself."""

MAX_WORDS = 64
"""How many words of a query are looked up."""
CANDIDATES = 20_000
"""About how many texts are scored, which takes 4 microseconds a text. Of a query whose words are in
more of them, the most frequent words are left out: they tell the least."""

_TEXTS_PER_IMAGE = 1 << 10
"""A row's number is its image's id times this, and the place of the text: all texts of an image are
found by their numbers."""
_MOST_IMAGES = (1 << 63) // _TEXTS_PER_IMAGE
_WORD = re.compile(r"[^\W_]+")
_MARKS = dict.fromkeys(range(0x0300, 0x0370))
_NO_STROKE = str.maketrans("đĐ", "dD")


class ImageWords(NamedTuple):
    """The texts of one image."""

    image_id: int
    path: str
    captions: Sequence[str] = ()
    texts: Sequence[str] = ()
    """The user's."""


def write(db: sqlite3.Connection, images: Iterable[ImageWords]) -> None:
    """Write the texts of images that have none in the index. Nothing is committed here."""
    db.executemany(
        "INSERT INTO words (rowid, written, folded) VALUES (?, ?, ?)",
        (row for image in images for row in _rows(image)),
    )


def _rows(image: ImageWords) -> Iterator[tuple[int, str, str]]:
    name = PurePosixPath(image.path.replace("\\", "/")).stem
    texts = ["\n".join([name, *image.texts]), *image.captions]
    texts[_TEXTS_PER_IMAGE - 1 :] = ["\n".join(texts[_TEXTS_PER_IMAGE - 1 :])]
    for place, text in enumerate(texts):
        written = as_written(text)
        if written:
            yield image.image_id * _TEXTS_PER_IMAGE + place, written, fold(written)


def remove(db: sqlite3.Connection, image_ids: Iterable[int]) -> None:
    """Remove the texts of images. Nothing is committed here."""
    # What is larger is a damaged number, and has no texts.
    firsts = (int(i) * _TEXTS_PER_IMAGE for i in image_ids if abs(int(i)) < _MOST_IMAGES)
    db.executemany(
        "DELETE FROM words WHERE rowid BETWEEN ? AND ?",
        ((first, first + _TEXTS_PER_IMAGE - 1) for first in firsts),
    )


def rebuild(db: sqlite3.Connection) -> None:
    """Write the texts of all images anew, from the tables `images`, `captions` and `fields`.

    What is no text is left out: in a damaged catalogue, anything may stand in a column. Nothing is
    committed here.
    """
    db.execute("DELETE FROM words")
    user = metadata.text_columns(metadata.columns(db))
    texts = "".join(f", {column.sql_name}" for column in user)
    query = (
        "SELECT images.id, path, (SELECT json_group_array(text) FROM (SELECT text FROM captions "
        f"WHERE image_id = images.id AND typeof(text) = 'text' ORDER BY id)){texts} "
        "FROM images LEFT JOIN fields ON fields.image_id = images.id "
        "WHERE typeof(path) = 'text'"
    )
    write(
        db,
        (
            ImageWords(image_id, path, json.loads(captions), _texts(row))
            for image_id, path, captions, *row in db.execute(query).fetchall()
        ),
    )


def _texts(values: Sequence[object]) -> list[str]:
    return [value for value in values if isinstance(value, str) and value]


def search(
    db: sqlite3.Connection, text: str, k: int, allowed: npt.NDArray[np.int64] | None = None
) -> list[tuple[int, float]]:
    """Return id and score of the images that have words of a query, best first.

    Args:
        db: the index.
        text: the query. It is taken as words; FTS5's own operators mean nothing in it. An image
            needs one of the words, and more of them make it better.
        k: how many images, at most.
        allowed: ids of the images that may be returned; None allows all.

    Returns:
        Scores are positive; those of different queries cannot be compared. Of equal scores, the
        lower id comes first.

    Raises:
        DataError: the query has no words.
    """
    words = _words(text)
    few = allowed is not None and len(allowed) <= CANDIDATES
    match = _match(words, set(map(fold, words)) if few else _rare(db, words))
    passes, values = "", []
    if allowed is not None:
        passes = f"AND rowid / {_TEXTS_PER_IMAGE} IN (SELECT value FROM json_each(?))"
        values = [json.dumps(np.asarray(allowed).tolist())]
    # SQLite computes `rank` only as long as the inner query stays one of its own.
    query = (
        f"SELECT image, MIN(score) AS best FROM (SELECT rowid / {_TEXTS_PER_IMAGE} AS image, "
        f"rank AS score FROM words WHERE words MATCH ? {passes} LIMIT -1) "
        "GROUP BY image ORDER BY best, image LIMIT ?"
    )
    return [(int(i), -float(score)) for i, score in db.execute(query, (match, *values, int(k)))]


def as_written(text: str) -> str:
    """Return a text as it is searched: NFC, lower case, one spelling of what looks the same."""
    return normalize(text.lower())


def fold(text: str) -> str:
    """Return a text without diacritics, with `d` for `đ`."""
    bare = unicodedata.normalize("NFD", text).translate(_MARKS).translate(_NO_STROKE)
    return unicodedata.normalize("NFC", bare)


def _words(text: str) -> list[str]:
    """Return the words of a query, as written.

    Raises:
        DataError: there are none.
    """
    words = _WORD.findall(as_written(text))
    if not words:
        raise DataError(f"{text[:60]!r}: a search by words needs a word; give one, or leave it out")
    return words[:MAX_WORDS]


def _rare(db: sqlite3.Connection, words: Sequence[str]) -> set[str]:
    """Return the folded words to look up: from the rarest on, until they are in enough texts."""
    counts = {}
    for word in map(fold, words):
        row = db.execute("SELECT doc FROM word_counts WHERE term = ?", (word,)).fetchone()
        counts[word] = row[0] if row else 0
    rare, texts = set(), 0
    for word in sorted(counts, key=lambda word: counts[word]):
        if texts and texts + counts[word] > CANDIDATES:
            break
        rare.add(word)
        texts += counts[word]
    return rare


def _match(words: Sequence[str], rare: set[str]) -> str:
    """Return FTS5's query for those words that are rare, and the pairs with one; all are quoted."""
    taken = [(word, fold(word) in rare) for word in words]
    phrases = [word for word, is_rare in taken if is_rare]
    phrases += [
        f"{first} {second}" for (first, one), (second, other) in pairwise(taken) if one or other
    ]
    written = list(dict.fromkeys(phrases))
    folded = list(dict.fromkeys(map(fold, phrases)))
    return f"{_one_of('written', written)} OR {_one_of('folded', folded)}"


def _one_of(column: str, phrases: Sequence[str]) -> str:
    quoted = " OR ".join(f'"{phrase}"' for phrase in phrases)
    return f"{column} : ({quoted})"
