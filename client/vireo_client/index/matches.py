"""Matches: what a search returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, overload

import numpy as np
import numpy.typing as npt

from ..errors import VireoError
from ..printing import printable
from .exact import Embeddings

if TYPE_CHECKING:
    import pandas
    from rich.table import Table

Value = str | int | float | bool | None
"""A value of an image's metadata."""


class _NoMetadata(dict[str, Any]):
    """The one empty dict that all matches without metadata share; nothing can be put into it."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a match has no metadata of its own to change; copy it with dict(...)")

    __setitem__ = setdefault = update = __ior__ = _refuse


_NO_METADATA: Mapping[str, Value] = _NoMetadata()


class Match(NamedTuple):
    """One hit."""

    rank: int
    """From 1."""
    score: float
    """Cosine similarity, between -1 and 1."""
    path: str
    """The image, or the image that the caption describes."""
    caption: str | None = None
    """The caption, where captions were searched."""
    id: int = 0
    """The image's number in the index, or the caption's; an index gives none out twice."""
    relevance: float | None = None
    """Between 0 and 1, the same for every model; None where the index has not learned it."""
    metadata: Mapping[str, Value] = _NO_METADATA
    """The image's fields, by name."""

    def __hash__(self) -> int:
        return hash(self[:-1])  # a dict has no hash; matches that are equal agree in the rest too


class Matches(Sequence[Match]):
    """The hits of one query, best first: arrays, which are a sequence of `Match` too.

    A slice keeps the ranks that its hits have. Matches are equal to any list of equal `Match`es.

    Args:
        ids: INT64 `[N]`.
        scores: FP32 `[N]`, best first.
        paths: N paths.
        captions: N captions, where captions were searched.
        relevance: FP32 `[N]`, between 0 and 1, where the index has learned it.
        metadata: N dicts, where the images' fields were read.
        ranks: INT64 `[N]`; by default from 1.

    Raises:
        ValueError: one of them has another length than `ids`.
    """

    __slots__ = ("captions", "ids", "metadata", "paths", "ranks", "relevance", "scores")

    def __init__(
        self,
        ids: npt.ArrayLike,
        scores: npt.ArrayLike,
        paths: Sequence[str],
        captions: Sequence[str | None] | None = None,
        *,
        relevance: npt.ArrayLike | None = None,
        metadata: Sequence[Mapping[str, Value]] | None = None,
        ranks: npt.ArrayLike | None = None,
    ) -> None:
        self.ids: npt.NDArray[np.int64] = np.asarray(ids, dtype=np.int64)
        """The ids, INT64 `[N]`."""
        count = len(self.ids)
        self.scores: Embeddings = np.asarray(scores, dtype=np.float32)
        """The cosine similarities, FP32 `[N]`."""
        self.paths = list(paths)
        self.captions = None if captions is None else list(captions)
        self.relevance: Embeddings | None = (
            None if relevance is None else np.asarray(relevance, dtype=np.float32)
        )
        """FP32 `[N]`, or None."""
        self.metadata = None if metadata is None else list(metadata)
        self.ranks: npt.NDArray[np.int64] = (
            np.arange(1, count + 1, dtype=np.int64)
            if ranks is None
            else np.asarray(ranks, dtype=np.int64)
        )
        """INT64 `[N]`, from 1."""
        for name in self.__slots__:
            column = getattr(self, name)
            if column is not None and len(column) != count:
                raise ValueError(f"{count} ids, but {len(column)} {name}")

    @classmethod
    def of(cls, hits: Sequence[Match]) -> Matches:
        """Make them of single hits, numbered from 1 anew."""
        captions = [hit.caption for hit in hits]
        relevance = [hit.relevance for hit in hits if hit.relevance is not None]
        return cls(
            [hit.id for hit in hits],
            [hit.score for hit in hits],
            [hit.path for hit in hits],
            captions if any(caption is not None for caption in captions) else None,
            relevance=relevance if hits and len(relevance) == len(hits) else None,
            metadata=[hit.metadata for hit in hits],
        )

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, key: int) -> Match: ...
    @overload
    def __getitem__(self, key: slice) -> Matches: ...
    def __getitem__(self, key: int | slice) -> Match | Matches:
        if isinstance(key, slice):
            return self._taken(range(len(self))[key])
        return Match(
            int(self.ranks[key]),
            float(self.scores[key]),
            self.paths[key],
            None if self.captions is None else self.captions[key],
            int(self.ids[key]),
            None if self.relevance is None else float(self.relevance[key]),
            _NO_METADATA if self.metadata is None else self.metadata[key],
        )

    def where(self, kept: npt.NDArray[np.bool_]) -> Matches:
        """Keep the hits at which `kept`, BOOL `[N]`, is True, and number them from 1 anew."""
        return self._taken(np.flatnonzero(kept).tolist(), anew=True)

    def _taken(self, positions: Sequence[int], *, anew: bool = False) -> Matches:
        rows = np.asarray(positions, dtype=np.intp)
        return Matches(
            self.ids[rows],
            self.scores[rows],
            [self.paths[i] for i in positions],
            None if self.captions is None else [self.captions[i] for i in positions],
            relevance=None if self.relevance is None else self.relevance[rows],
            metadata=None if self.metadata is None else [self.metadata[i] for i in positions],
            ranks=None if anew else self.ranks[rows],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Matches, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __repr__(self) -> str:
        return f"Matches({list(self)!r})"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dict for each hit, with the fields of `Match` as keys; JSON can hold them."""
        return [{**match._asdict(), "metadata": dict(match.metadata)} for match in self]

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table of pandas: a row a hit, the images' metadata in columns of their own.

        A field of the metadata that is named as a column of ours is becomes `NAME_metadata`.

        Raises:
            VireoError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            raise VireoError(
                "pandas is not installed; Matches.to_pandas needs it: pip install pandas"
            ) from None
        columns: dict[str, Any] = {"rank": self.ranks, "score": self.scores}
        if self.relevance is not None:
            columns["relevance"] = self.relevance
        columns |= {"path": self.paths, "id": self.ids}
        if self.captions is not None:
            columns["caption"] = self.captions
        table = pandas.DataFrame(columns)
        if self.metadata is None:
            return table
        return table.join(pandas.DataFrame(self.metadata), rsuffix="_metadata")

    def to_table(self) -> Table:
        """Return a table of rich, to be printed on a console; names in it steer no terminal."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        table.add_column("rank", justify="right")
        table.add_column("score", justify="right")
        if self.relevance is not None:
            table.add_column("relevance", justify="right")
        if self.captions is not None:
            table.add_column("caption")
        table.add_column("path", overflow="fold")
        for match in self:
            cells = [str(match.rank), f"{match.score:.3f}"]
            if match.relevance is not None:
                cells.append(f"{match.relevance:.2f}")
            if self.captions is not None:
                cells.append(printable(match.caption or ""))
            table.add_row(*map(Text, [*cells, printable(match.path)]))
        return table
