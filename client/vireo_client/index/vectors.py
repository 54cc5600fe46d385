"""An index's vector files: the FAISS half of a generation.

Each generation has two files of its own, `images-7-3f9c01ab.faiss` and `captions-7-3f9c01ab.faiss`:
the generation's number, and the id of the writer that wrote it. The catalogue commits both, so that
the files of a writer that failed or died are never taken for those of the writer that came after.
Indexes written before there were writer ids have `images-7.faiss`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import faiss

from ..errors import SearchIndexError
from .catalogue import Catalogue, State

# A reader that loses the race against a writer's save tries again. Each attempt that fails means
# one more save, so that this many in a row mean a fault.
_LOAD_ATTEMPTS = 100


class Vectors(NamedTuple):
    """The embeddings of one committed state, in memory."""

    state: State
    images: faiss.IndexIDMap2
    captions: faiss.IndexIDMap2


def load_vectors(folder: Path, catalogue: Catalogue, dim: int) -> Vectors:
    """Load both vector files of the newest committed state.

    Args:
        folder: the index.
        catalogue: its catalogue.
        dim: the embedding size that the files must have.

    Raises:
        SearchIndexError: a file is missing, damaged, or does not fit the catalogue.
    """
    for attempt in range(1, _LOAD_ATTEMPTS + 1):
        state = catalogue.state()
        image_file, caption_file = vector_files(folder, state)
        try:
            return Vectors(
                state,
                _read(image_file, state, state.images, dim),
                _read(caption_file, state, state.captions, dim),
            )
        except SearchIndexError:
            # A writer may have saved the next generation since, and swept this one away.
            if catalogue.state() == state or attempt == _LOAD_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def write_vectors(folder: Path, vectors: Vectors) -> None:
    """Write the two files of a state that is about to be committed, down to the disk.

    Raises:
        RuntimeError, OSError: the disk does not take them.
    """
    for path, index in zip(
        vector_files(folder, vectors.state), (vectors.images, vectors.captions), strict=True
    ):
        faiss.write_index(index, str(path))
        _sync(path)
    _sync(folder)


def sweep_vectors(folder: Path, state: State) -> None:
    """Remove the vector files of all states but `state`."""
    current = vector_files(folder, state)
    for path in folder.glob("*.faiss"):
        if path not in current:
            path.unlink()


def vector_files(folder: Path, state: State) -> tuple[Path, Path]:
    """Return the paths of a state's image and caption embeddings."""
    writer = f"-{state.writer_id}" if state.writer_id else ""
    suffix = f"-{state.generation}{writer}.faiss"
    return folder / f"images{suffix}", folder / f"captions{suffix}"


def _read(path: Path, state: State, expected: int, dim: int) -> faiss.IndexIDMap2:
    if state.generation == 0:
        return faiss.IndexIDMap2(faiss.IndexFlatIP(dim))
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        reason = str(error).rpartition("Error: ")[2]
        raise SearchIndexError(
            f"{path}: cannot be read ({reason}); index the images again into a new folder"
        ) from None
    if not isinstance(index, faiss.IndexIDMap):
        raise SearchIndexError(
            f"{path}: holds vectors without ids; index the images again into a new folder"
        )
    if index.ntotal != expected or index.d != dim:
        raise SearchIndexError(
            f"{path}: {index.ntotal} vectors of size {index.d}, the catalogue has {expected} "
            f"of size {dim}; index the images again into a new folder"
        )
    return index  # type: ignore[return-value]


def _search_alone() -> None:
    """Search on one thread in a forked child: the parent's OpenMP threads are not there."""
    faiss.omp_set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_search_alone)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
