"""What a caller may set for one search."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import DataError


@dataclass(frozen=True)
class SearchSettings:
    """Settings of one search; `None` takes the value that was tuned when the index was built.

    Raises:
        DataError: a number is not a whole number from 1.
    """

    exact: bool = False
    """Compare with every vector, whatever the kind; slow and without a miss."""
    nprobe: int | None = None
    """How many cells `ivf`, `ivfpq` and `rabitq` look into; other kinds have none."""
    ef: int | None = None
    """How many candidates `hnsw` keeps while it walks its graph; other kinds have none."""

    def __post_init__(self) -> None:
        for name in ("nprobe", "ef"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise DataError(f"{name} is {value!r}; give a whole number from 1")
