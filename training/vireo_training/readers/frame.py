"""A pandas data frame as a source: a row a record, its columns named as a table's are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vireo_client.captions import Described, Skip

from . import json_list

NAME = "data frame"
"""What stands for a frame where messages name a file."""


@runtime_checkable
class Frame(Protocol):
    """What is needed of `pandas.DataFrame`; pandas itself is not."""

    columns: Any

    def to_dict(self, orient: Any, /) -> Any:
        """Return the rows as dictionaries, with "records"."""


def read(frame: Frame) -> Iterator[Described | Skip]:
    """Yield one item a row; a row whose image or caption is missing is a skip."""
    return json_list.read(Path(NAME), frame.to_dict("records"), "row")
