"""Embeddings in files, in the layout that clip-retrieval's users know.

    FOLDER/
      vireo.json                    the bundle, the embedding size, and what was embedded
      img_emb/img_emb_0.npy         FP32 or FP16 [N, D], unit length
      text_emb/text_emb_0.npy       likewise, of texts
      metadata/metadata_0.parquet   row i is of embedding i: image_path, or caption
      captions/                     the captions of the images, as a folder of texts of this layout

Each partition holds a bounded number of rows. Its metadata is written last: a partition that has
it is complete. Where pyarrow is not installed, metadata is `metadata_0.jsonl`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..errors import DataError, first_line
from ..files import replacing_file
from ..parquet import damage, open_parquet

IMAGES, TEXTS = "img_emb", "text_emb"
CAPTIONS = "captions"
MANIFEST = "vireo.json"
_METADATA = re.compile(r"metadata_(\d+)\.(parquet|jsonl)")

Row = dict[str, Any]


class Partition(NamedTuple):
    """One partition that was written."""

    number: int
    embeddings: npt.NDArray[np.floating[Any]]
    """`[N, D]`, mapped into memory."""
    rows: list[Row]


def write_manifest(
    folder: Path,
    bundle: Bundle,
    what: str,
    *,
    partition_rows: int,
    dtype: str,
    source: str | None = None,
) -> None:
    """Start a folder, or go on with one that was started with the same settings.

    Args:
        folder: the folder of the layout.
        bundle: the bundle whose towers embed.
        what: "images" or "texts".
        partition_rows: rows of one partition.
        dtype: "float32" or "float16".
        source: a digest of what is embedded, where a run may go on.

    Raises:
        DataError: the folder holds other files, or was started with other settings.
    """
    manifest = {
        "format": 1,
        "bundle": bundle.bundle_id,
        "dim": bundle.config.embedding_dim,
        "what": what,
        **({} if source is None else {"source": source}),
        "partition_rows": partition_rows,
        "dtype": dtype,
    }
    path = folder / MANIFEST
    if path.is_file():
        known = read_manifest(folder)
        changed = [key for key in manifest if known.get(key) != manifest[key]]
        if changed:
            raise DataError(
                f"{folder}: was written with another {', '.join(changed)}; the source or the "
                "settings have changed since. Choose another folder, or delete this one"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder}: holds other files; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as file:
        file.write((json.dumps(manifest, indent=1) + "\n").encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what `write_manifest` wrote; nothing for a folder that other programs wrote.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: not readable ({error})") from None
    if not isinstance(manifest, dict):
        raise DataError(f"{path}: not a JSON object")
    return manifest


def finished(folder: Path) -> set[int]:
    """Return the numbers of the partitions that are complete."""
    return {*_metadata_files(folder)}


def write_partition(
    folder: Path,
    what: str,
    number: int,
    embeddings: npt.NDArray[np.float32],
    rows: Sequence[Row],
    dtype: str = "float32",
) -> None:
    """Write one partition; a kill leaves it complete, or not there.

    Args:
        folder: the folder of the layout.
        what: `IMAGES` or `TEXTS`.
        number: the partition's, from 0.
        embeddings: FP32 `[N, D]`.
        rows: the metadata of each.
        dtype: "float32" or "float16".

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    suffix = "parquet" if find_spec("pyarrow") else "jsonl"
    try:
        for name in (what, "metadata"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with replacing_file(folder / what / f"{what}_{number}.npy") as file:
            np.save(file, embeddings.astype(dtype))
        with replacing_file(folder / "metadata" / f"metadata_{number}.{suffix}") as file:
            if suffix == "parquet":
                _write_parquet(file, rows)
            else:
                for row in rows:
                    file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
    except OSError as error:  # numpy's names no file
        raise DataError(
            f"{folder}: cannot be written ({error}); run it again when there is space: partitions "
            "that are complete are kept"
        ) from error


def read_partitions(folder: Path, what: str) -> Iterator[Partition]:
    """Yield the partitions of a folder in the order of their numbers.

    Raises:
        DataError: there is none, one is damaged, or its rows and embeddings differ in number.
        MissingExtraError: metadata is in parquet and pyarrow is not installed.
    """
    files = _metadata_files(folder)
    if not files:
        raise DataError(
            f"{folder}: no embeddings here; there must be {what}/{what}_0.npy and "
            "metadata/metadata_0.parquet (or .jsonl)"
        )
    for number, path in sorted(files.items()):
        array = folder / what / path.with_suffix(".npy").name.replace("metadata", what, 1)
        rows = _read_rows(path)
        embeddings = _read_array(array)
        if len(embeddings) != len(rows):
            raise DataError(
                f"{array}: {len(embeddings)} embeddings, but {path} has {len(rows)} rows"
            )
        yield Partition(number, embeddings, rows)


def _metadata_files(folder: Path) -> dict[int, Path]:
    place = folder / "metadata"
    if not place.is_dir():
        return {}
    matches = ((_METADATA.fullmatch(path.name), path) for path in place.iterdir())
    return {int(match[1]): path for match, path in matches if match}


def _read_array(path: Path) -> npt.NDArray[np.floating[Any]]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, though its metadata is there") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable array ({first_line(error)})") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f":
        raise DataError(f"{path}: not an array [N, D] of floating-point numbers")
    return array


def _read_rows(path: Path) -> list[Row]:
    if path.suffix == ".jsonl":
        try:
            return [json.loads(line) for line in path.read_bytes().splitlines()]
        except ValueError as error:
            raise DataError(f"{path}: not readable ({error})") from None
    file = open_parquet(path)
    try:
        rows: list[Row] = file.read().to_pylist()
    except damage() as error:
        raise DataError(f"{path}: not a readable parquet file ({first_line(error)})") from None
    return rows


def _write_parquet(file: Any, rows: Sequence[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) > 1 and kinds != {int, float}:  # a column of parquet has one type
            values = [None if value is None else str(value) for value in values]
        columns[name] = values
    pq.write_table(pa.table(columns), file)
