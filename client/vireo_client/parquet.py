"""Opens parquet files, whose library is installed with an extra and fails in many ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import DataError, MissingExtraError, first_line


def open_parquet(path: Path) -> Any:
    """Open a file as `pyarrow.parquet.ParquetFile`, with its schema read.

    Raises:
        DataError: it is no readable parquet file, or pyarrow does not load.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise MissingExtraError("pyarrow", "data") from None
    except ImportError as error:  # its newest versions refuse numpy 1
        raise DataError(f"pyarrow does not load: {first_line(error)}") from None
    try:
        file = pq.ParquetFile(path)
        _ = file.schema_arrow  # fails where a column's name is not UTF-8
    except damage() as error:
        raise DataError(f"{path}: not a readable parquet file ({first_line(error)})") from None
    return file


def damage() -> tuple[type[Exception], ...]:
    """Return what pyarrow raises for a damaged file that is being read."""
    import pyarrow as pa

    return pa.ArrowException, OSError, ValueError, MemoryError
