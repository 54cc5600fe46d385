"""The index's catalogue: the image or caption behind each embedding's id, in one SQLite file.

An id names the same image, or the same caption, for ever: rows are added and removed, never
changed, and the number of a removed row is not given out again. An embedding that is older or newer
than the catalogue's rows can therefore lose its row, but it can never meet another one's.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..bundle import Bundle
from ..errors import SearchIndexError, first_line
from ..forks import renew_after_fork
from . import digests, metadata, words
from .database import CATALOGUE_FILE as CATALOGUE_FILE
from .database import Database, check_is_index, damaged
from .facets import Facets, read_facets
from .filters import Filter, as_predicate
from .predicates import matching_ids
from .relevance import META_KEY as RELEVANCE_KEY
from .relevance import Relevance
from .rows import NO_FIELDS, FileStamp, Found, FoundRow, Ids, ImageRow, Layout, State
from .segments import segment_row
from .states import check_schema, find_saved, read_state

logger = logging.getLogger(__name__)


class Catalogue(Database):
    """The rows of one index, for reading; threads may share it.

    Args:
        path: the SQLite file.

    Raises:
        SearchIndexError: the file is missing, damaged, or of another schema version.
    """

    is_checked = False
    """Whether all rows were checked when the index was opened; else each is when it is found."""
    _columns: Sequence[metadata.Column] = ()
    _columns_of: tuple[int, str] | None = None
    """The state of which the columns were read."""

    def __init__(self, path: Path) -> None:
        check_is_index(path.parent)
        self._connect(path)
        self._check_schema()
        # The file itself is opened for writing: only then can SQLite roll back the unfinished
        # transaction of a writer that was killed. Statements that write are refused.
        self._db.execute("PRAGMA query_only = ON")
        renew_after_fork(self)

    def _check_schema(self) -> None:
        try:
            with self._connection() as db:
                check_schema(db, self.path)
        except BaseException:
            self._db.close()
            raise

    def meta(self, key: str) -> str | None:
        """Return the value of a key, None without one."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def relevance(self) -> Relevance | None:
        """Return what the index has learned of relevance; None if nothing, or if it is damaged."""
        text = self.meta(RELEVANCE_KEY)
        try:
            return None if text is None else Relevance.from_json(text)
        except SearchIndexError as error:
            logger.warning("%s: %s", self.path.parent, error)
            return None

    def state(self) -> State:
        """Return the committed state, all of it of one moment."""
        with self.moment() as db:
            return read_state(db)

    def layout(self, *, checked: bool = False) -> Layout:
        """Return the committed state and its segments, all of one moment.

        Args:
            checked: compare them with the digest that was written with them.

        Raises:
            SearchIndexError: they are damaged.
        """
        with self.moment() as db:
            state = read_state(db)
            if state.version == 1:
                return Layout(state, [], {})
            if checked and not digests.tables_are_whole(db):
                raise damaged("its digest is another")
            entries = db.execute("SELECT name, part, rows, kind, settings, files FROM segments")
            try:
                segments = [segment_row(*entry) for entry in entries]
                removed = {}
                for segment in segments:
                    rows = db.execute(
                        "SELECT row FROM removed WHERE segment = ? ORDER BY row", (segment.name,)
                    ).fetchall()
                    if rows:
                        removed[segment.name] = np.array(rows, dtype=np.int64).ravel()
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                raise damaged(first_line(error)) from error
        return Layout(state, segments, removed)

    def saved(self) -> tuple[int, str]:
        """Return generation and writer of the committed state."""
        with self._connection() as db:
            return find_saved(db)

    def check_bundle(self, bundle: Bundle) -> None:
        """Check that `bundle` made this index.

        Raises:
            SearchIndexError: another bundle did.
        """
        made_by = self.meta("bundle_id")
        if made_by != bundle.bundle_id:
            raise SearchIndexError(
                f"{self.path.parent}: made by bundle {made_by}, but {bundle.folder} is bundle "
                f"{bundle.bundle_id}; use that bundle, or index the images again elsewhere"
            )

    def images(self, ids: Iterable[int]) -> Found:
        """Look up images by id; an id without a row is left out."""
        return self._by_id("SELECT id, path, NULL, id FROM images WHERE id IN", ids)

    def captions(self, ids: Iterable[int]) -> Found:
        """Look up captions by id; an id without a row is left out."""
        query = (
            "SELECT captions.id, path, text, image_id FROM captions "
            "JOIN images ON images.id = image_id WHERE captions.id IN"
        )
        return self._by_id(query, ids)

    def captions_by_image(self, ids: Iterable[int]) -> dict[int, list[str]]:
        """Look up the captions of images by the images' ids; one without any is left out."""
        query = (
            "SELECT image_id, text FROM captions "
            "WHERE image_id IN (SELECT value FROM json_each(?)) ORDER BY id"
        )
        found: dict[int, list[str]] = {}
        for image_id, text in self._rows(query, (json.dumps(list(ids)),)):
            found.setdefault(image_id, []).append(text)
        return found

    def image_rows(self, ids: Iterable[int]) -> dict[int, ImageRow]:
        """Look up path, hash and stamp of images by id; an id without a row is left out."""
        query = (
            "SELECT id, path, sha256, bytes, mtime_ns, captions_digest FROM images "
            "WHERE id IN (SELECT value FROM json_each(?))"
        )
        rows = self._rows(query, (json.dumps(list(ids)),))
        return {id_: ImageRow(id_, path, sha256, FileStamp(*stamp))
                for id_, path, sha256, *stamp in rows}  # fmt: skip

    def facets(self) -> Facets:
        """Return what there is to filter by; nothing for an index of schema 1."""
        with self.moment() as db:
            return read_facets(db) if read_state(db).version > 1 else Facets()

    def _by_id(self, query: str, ids: Iterable[int]) -> Found:
        with self.moment() as db:
            return self._find(db, query, ids)

    def _find(self, db: sqlite3.Connection, query: str, ids: Iterable[int]) -> Found:
        saved = find_saved(db)
        # As one value: SQLite limits how many a statement may take.
        wanted = json.dumps(list(ids))
        found = db.execute(f"{query} (SELECT value FROM json_each(?))", (wanted,)).fetchall()
        if found and not self.is_checked and read_state(db).version > 1:
            images = {image_id for *_, image_id in found}
            if not digests.are_whole(db, images):
                raise damaged("the row of an image that was found")
        fields: dict[int, dict[str, str | int | float | bool]] = {}
        if found and self._has_fields(db, saved):
            fields = metadata.read(db, {image_id for *_, image_id in found}, self._columns)
        rows = {
            id_: FoundRow(path, text, image_id, fields.get(image_id, NO_FIELDS))
            for id_, path, text, image_id in found
        }
        if not all(
            isinstance(r.path, str) and isinstance(r.text, (str, type(None))) for r in rows.values()
        ):
            raise damaged("a path or a caption is no text")
        return Found(saved, rows)

    def _has_fields(self, db: sqlite3.Connection, saved: tuple[int, str]) -> bool:
        """Return whether there is metadata; its columns are read once a state."""
        if self._columns_of != saved:
            known = metadata.columns(db) if read_state(db).version > 1 else {}
            self._columns, self._columns_of = list(known.values()), saved
        return bool(self._columns)

    def search_words(
        self, text: str, k: int, filter_: Filter | None
    ) -> tuple[list[tuple[int, float]], Found]:
        """Find the `k` images whose words fit a text best: ids with scores, and their rows.

        Raises:
            DataError: the text has no words, or the filter is none that the index can answer.
        """
        with self.moment() as db:
            self._check_tables(db)
            allowed = None if filter_ is None else matching_ids(db, as_predicate(filter_))
            hits = words.search(db, text, k, allowed)
            query = "SELECT id, path, NULL, id FROM images WHERE id IN"
            found = self._find(db, query, [id_ for id_, _ in hits])
            if len(found.rows) < len(hits):
                raise damaged("there are words of images that have no row")
            return hits, found

    def filtered(self, part: str, filter_: Filter) -> tuple[tuple[int, str], Ids]:
        """Find the ids that pass a filter.

        Args:
            part: `images`, or `captions`, which pass if their images do.
            filter_: the filter.

        Returns:
            Generation and writer of the state that was read, and the ids, INT64, ascending.

        Raises:
            DataError: the filter is none that the index can answer.
        """
        with self.moment() as db:
            self._check_tables(db)
            ids = matching_ids(db, as_predicate(filter_))
            if part == "captions":
                query = (
                    "SELECT id FROM captions WHERE image_id IN (SELECT value FROM json_each(?)) "
                    "ORDER BY id"
                )
                found = db.execute(query, (json.dumps(ids.tolist()),)).fetchall()
                ids = np.fromiter((id_ for (id_,) in found), np.int64, len(found))
            return find_saved(db), ids

    def _check_tables(self, db: sqlite3.Connection) -> None:
        if read_state(db).version == 1:
            raise SearchIndexError(
                f"{self.path.parent}: was written before images had metadata and words; save to it "
                "once, with `vireo index`"
            )
