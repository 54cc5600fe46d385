"""Looking after an index: what it holds, whether it is whole, its repair, and copies of it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import SearchIndexError
from ..files import replacing
from .bundle_files import BUNDLE_FOLDER, move_place
from .catalogue import CATALOGUE_FILE, Catalogue
from .database import check_is_index, unusable
from .lock import WriterLock
from .recovery import recover
from .repair import repair as repair_damage
from .rows import Layout, State
from .segments import FLAT, PARTS
from .states import find_saved
from .storage import SEGMENTS_FOLDER
from .verification import Problem, find_damage
from .writable import WritableCatalogue

_ATTEMPTS = 100


@dataclass(frozen=True)
class IndexInfo:
    """What an index holds."""

    folder: Path
    images: int
    captions: int
    generation: int
    """The number of commits so far."""
    schema: int
    bundle_id: str
    """Of the bundle that made it."""
    kinds: Mapping[str, str]
    """The search structure of the larger part of `images` and of `captions`."""
    recall: Mapping[str, float]
    """`recall@10` of each structure as it was measured when it was built, by part."""
    segments: Mapping[str, int]
    """Embeddings by segment, removed ones included."""
    removed: int
    """Removed embeddings that still take place, until a compaction."""
    files: Mapping[str, int]
    """Bytes by file, with paths relative to the folder."""

    @property
    def bytes(self) -> int:
        """The bytes of all files."""
        return sum(self.files.values())

    @property
    def bytes_per_vector(self) -> float:
        """The bytes of segments and structures for each embedding that can be found."""
        taken = sum(n for name, n in self.files.items() if name.endswith((".npy", ".faiss")))
        return taken / max(1, self.images + self.captions)


@dataclass(frozen=True)
class Verification:
    """What a verification found."""

    folder: Path
    problems: list[Problem] = field(default_factory=list)
    """What was wrong before a repair."""
    repaired: bool = False
    lost: list[str] = field(default_factory=list)
    """Paths of the images that a repair dropped; `vireo index` on their folders brings them back.
    Of images whose paths were damaged too, there is none."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong, or all of it was repaired."""
        return self.repaired or not self.problems


def info(folder: str | Path) -> IndexInfo:
    """Tell what an index holds, without reading its embeddings.

    Raises:
        SearchIndexError: there is no index, or its catalogue cannot be read.
    """
    folder = Path(folder)
    with closing(Catalogue(folder / CATALOGUE_FILE)) as catalogue:
        layout = catalogue.layout()
        bundle_id = catalogue.meta("bundle_id") or ""
    kinds, recall = {}, {}
    for part in PARTS:
        entries = [entry for entry in layout.segments if entry.part == part]
        largest = max(entries, key=lambda entry: entry.rows, default=None)
        kinds[part] = largest.kind if largest else FLAT
        measured = largest.settings.get("recall@10") if largest else None
        if isinstance(measured, (int, float)):
            recall[part] = float(measured)
    return IndexInfo(
        folder=folder,
        images=layout.state.images,
        captions=layout.state.captions,
        generation=layout.state.generation,
        schema=layout.state.version,
        bundle_id=bundle_id,
        kinds=kinds,
        recall=recall,
        segments={entry.name: entry.rows for entry in layout.segments},
        removed=sum(map(len, layout.removed.values())),
        files={
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    )


def verify(folder: str | Path, *, repair: bool = False) -> Verification:
    """Check every checksum, every row and every embedding of an index, and how they fit together.

    It reads all files once. A writer may be at work meanwhile, except for a repair.

    Args:
        folder: the index.
        repair: drop what is damaged, so that the rest is a whole index again.

    Raises:
        IndexLocked: a repair is asked for and a writer is at work, or another program holds the
            catalogue.
        SearchIndexError: there is no index, or it is damaged beyond repair.
    """
    folder = Path(folder)
    if not repair:
        return Verification(folder, find_damage(folder).problems)
    check_is_index(folder)
    with closing(WriterLock(folder)):
        damage = find_damage(folder)
        problems = damage.problems
        if not problems:
            return Verification(folder)
        try:
            if damage.unreadable:
                recover(folder / CATALOGUE_FILE)
                damage = find_damage(folder)
            lost = repair_damage(folder, damage) if damage.problems else []
        # SQLite's messages may quote damaged names, which Python cannot decode.
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            raise SearchIndexError(f"{folder}: cannot be repaired ({error})") from error
        left = find_damage(folder).problems
    # The small files of the bundle are copied anew by the next writer that has the bundle.
    beyond = [problem for problem in left if not problem.where.startswith(BUNDLE_FOLDER)]
    if beyond:
        raise SearchIndexError(
            f"{folder}: could not be repaired ({beyond[0]}); bring a snapshot back, or index the "
            "images again into a new folder"
        )
    return Verification(folder, problems, repaired=not left, lost=lost)


def snapshot(folder: str | Path, target: str | Path) -> State:
    """Copy one committed state of an index; a writer may be at work meanwhile.

    Args:
        folder: the index.
        target: the folder to make.

    Returns:
        The state that was copied.

    Raises:
        SearchIndexError: there is no index, or the target holds files, or cannot be written.
    """
    folder, target = Path(folder), Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SearchIndexError(f"{target}: holds files; a snapshot needs a folder of its own")
    check_is_index(folder)  # before the target is touched
    try:
        with replacing(target, marker=CATALOGUE_FILE) as draft:
            layout = _copy_state(folder, draft)
            if (folder / BUNDLE_FOLDER).is_dir():
                shutil.copytree(folder / BUNDLE_FOLDER, draft / BUNDLE_FOLDER)
            with closing(WritableCatalogue(draft / CATALOGUE_FILE)) as catalogue:
                move_place(catalogue, folder, target)
    except (OSError, sqlite3.Error) as error:
        raise SearchIndexError(f"{target}: cannot be written ({error})") from error
    return layout.state


def _copy_state(folder: Path, draft: Path) -> Layout:
    """Copy the catalogue, then the segments that it names."""
    for attempt in range(1, _ATTEMPTS + 1):
        _copy_catalogue(folder / CATALOGUE_FILE, draft / CATALOGUE_FILE)
        with closing(Catalogue(draft / CATALOGUE_FILE)) as copy:
            layout = copy.layout()
        try:
            _copy_vectors(folder, draft, layout)
            return layout
        except FileNotFoundError:
            # A compaction has replaced these segments since.
            with closing(Catalogue(folder / CATALOGUE_FILE)) as catalogue:
                if catalogue.state() == layout.state or attempt == _ATTEMPTS:
                    raise
    raise AssertionError("unreachable")


def _copy_catalogue(source: Path, target: Path) -> None:
    """Copy a SQLite file as it is at one moment."""
    with (
        closing(sqlite3.connect(source, isolation_level=None)) as reading,
        closing(sqlite3.connect(target)) as writing,
    ):
        try:
            # What is read now stays as it is until the end, and a file that is locked is an error
            # after some seconds: `backup` would wait for it without end.
            reading.execute("BEGIN")
            find_saved(reading)
        except sqlite3.DatabaseError as error:
            raise unusable(source, error) from error
        reading.backup(writing)


def _copy_vectors(folder: Path, draft: Path, layout: Layout) -> None:
    if layout.state.version == 1:
        for path in folder.glob(f"*-{layout.state.generation}*.faiss"):
            shutil.copyfile(path, draft / path.name)
        return
    target = draft / SEGMENTS_FOLDER
    target.mkdir(exist_ok=True)
    needed = {name for entry in layout.segments for name in entry.files}
    for path in target.iterdir():  # of an attempt before
        if path.name not in needed:
            path.unlink()
    for name in needed:
        if not (target / name).is_file():
            shutil.copyfile(folder / SEGMENTS_FOLDER / name, target / name)
