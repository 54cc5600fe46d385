"""Indexes of schema 1: two FAISS files a generation, written anew at each save.

`images-7-3f9c01ab.faiss` and `captions-7-3f9c01ab.faiss` hold all embeddings of generation 7, which
the writer 3f9c01ab wrote; before there were writer ids, the names were `images-7.faiss`. A reader
opens such an index as it is. A writer turns it into one of schema 2 before its first save.
"""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np

from ..errors import SearchIndexError
from .changes import UNIT_TOLERANCE
from .rows import State
from .segments import FLAT, NO_ROWS, PARTS, Segment, SegmentRow, segment_name
from .storage import write_segment
from .writable import WritableCatalogue


def load_legacy(folder: Path, state: State, dim: int | None) -> dict[str, list[Segment]]:
    """Read both FAISS files of a state of schema 1 into memory, as one segment a part.

    Args:
        folder: the index.
        state: its state.
        dim: the embedding size that the files must have; any, if None.

    Raises:
        SearchIndexError: a file is missing, damaged, or does not fit the catalogue.
    """
    if state.generation == 0:
        return {part: [] for part in PARTS}
    return {
        part: _read(path, part, expected, dim)
        for part, path, expected in zip(
            PARTS, legacy_files(folder, state), (state.images, state.captions), strict=True
        )
    }


def convert(
    folder: Path,
    catalogue: WritableCatalogue,
    old: State,
    new: State,
    parts: dict[str, list[Segment]],
) -> None:
    """Turn an index of schema 1 into one of schema 2; a kill leaves the one or the other whole.

    Args:
        folder: the index.
        catalogue: its catalogue.
        old: its state, of schema 1.
        new: the state to commit.
        parts: what `load_legacy` read.

    Raises:
        SearchIndexError, OSError, sqlite3.Error: another writer has saved, or the disk does not
            take it.
    """
    catalogue.check_state(old)
    written = [
        write_segment(
            folder,
            segment_name(part, new.generation, new.writer_id),
            part,
            segment.ids,
            (segment.vectors,),
            segment.vectors.shape[1],
        )
        for part, segments in parts.items()
        for segment in segments
    ]
    with catalogue.transaction():
        catalogue.check_state(old)
        catalogue.upgrade()
        catalogue.add_segments(written)
        catalogue.set_state(new)


def sweep_legacy(folder: Path, state: State) -> None:
    """Remove the FAISS files that the committed state does not need."""
    needed = legacy_files(folder, state) if state.version == 1 else ()
    for part in PARTS:
        for path in folder.glob(f"{part}-*.faiss"):
            if path not in needed:
                path.unlink()


def legacy_files(folder: Path, state: State) -> tuple[Path, Path]:
    """Return the paths of a state's image and caption embeddings."""
    writer = f"-{state.writer_id}" if state.writer_id else ""
    suffix = f"-{state.generation}{writer}.faiss"
    return folder / f"images{suffix}", folder / f"captions{suffix}"


def _read(path: Path, part: str, expected: int, dim: int | None) -> list[Segment]:
    try:
        index = faiss.read_index(str(path))
    # A damaged length makes FAISS ask for absurd amounts of memory.
    except (RuntimeError, MemoryError, ValueError) as error:
        reason = str(error).rpartition("Error: ")[2] or type(error).__name__
        raise SearchIndexError(
            f"{path}: cannot be read ({reason}); index the images again into a new folder"
        ) from None
    # Another program may have written any of FAISS's indexes.
    if not isinstance(index, faiss.IndexIDMap) or not isinstance(
        faiss.downcast_index(index.index), faiss.IndexFlat
    ):
        raise SearchIndexError(
            f"{path}: holds other than vectors with ids; index the images again into a new folder"
        )
    if index.ntotal != expected or dim not in (None, index.d):
        raise SearchIndexError(
            f"{path}: {index.ntotal} vectors of size {index.d}, the catalogue has {expected} "
            f"of size {dim or index.d}; index the images again into a new folder"
        )
    if not expected:
        return []
    ids = faiss.vector_to_array(index.id_map)
    vectors = index.index.reconstruct_n(0, expected)
    with np.errstate(invalid="ignore", over="ignore"):
        wrong = ~(np.abs(np.linalg.norm(vectors, axis=1) - 1) <= UNIT_TOLERANCE)
    if wrong.any() or len(np.unique(ids)) != expected:
        raise SearchIndexError(
            f"{path}: damaged (ids that are there twice, or vectors of another length than 1); "
            "index the images again into a new folder"
        )
    order = np.argsort(ids)
    entry = SegmentRow(path.stem, part, expected, FLAT, {}, {})
    return [Segment(entry, ids[order], vectors[order], None, None, NO_ROWS)]
