"""Several sources as one, their records drawn with weights, reproducibly for a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from vireo_client.captions import CaptionedImage, CaptionSet, LeftOut, Skip, held_out, same_text

from .frame import Frame
from .sources import Source, read_data


@dataclass(frozen=True)
class Mixture:
    """Captioned images of several sources, and how often each is drawn.

    A weight belongs to a record, not to a source's share: a record of a source with weight 2 is
    drawn twice as often as one of a source with weight 1, however large the two are.
    """

    records: list[CaptionedImage]
    weights: npt.NDArray[np.float64]
    """`[N]`, above 0."""
    skipped: list[Skip] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    @classmethod
    def of(cls, parts: Sequence[tuple[CaptionSet, float]]) -> Mixture:
        """Join sets, each with its weight.

        An image that several of them name is one record with the captions of all (two records
        would be each other's negatives), under the largest of their weights,
        and in the split that `held_out` chooses.
        """
        captions: dict[Path, dict[str, str]] = {}
        weights: dict[Path, float] = {}
        splits: dict[Path, str | None] = {}
        for part, weight in parts:
            for record in part.records:
                known = captions.setdefault(record.path, {})
                for text in record.captions:
                    known.setdefault(same_text(text), text)
                splits[record.path] = held_out(splits.get(record.path), record.split)
                weights[record.path] = max(weight, weights.get(record.path, 0.0))
        return cls(
            [
                CaptionedImage(path, tuple(texts.values()), splits[path])
                for path, texts in captions.items()
            ],
            np.array([weights[path] for path in captions], dtype=np.float64),
            [skip for part, _ in parts for skip in part.skipped],
            [item for part, _ in parts for item in part.left_out],
        )

    def draw(self, epoch: int, *, seed: int, count: int | None = None) -> npt.NDArray[np.int64]:
        """Draw the records of one epoch, in random order.

        Each record comes as often as its weight says, rounded up or down at random (systematic
        sampling): equal weights give every record exactly once when `count` is their number.

        Args:
            epoch, seed: the same pair gives the same draw.
            count: the number to draw; by default the number of records.

        Returns:
            INT64 `[count]`, indexes into `records`.
        """
        rng = np.random.default_rng((seed, epoch))
        count = len(self.records) if count is None else count
        # Neighbours share the rounding, so they change from draw to draw.
        order = rng.permutation(len(self.records))
        ends = np.cumsum(self.weights[order])
        ends *= count / ends[-1]
        ticks = rng.random() + np.arange(count)
        # The last end may fall short of `count` by a rounding error.
        places = np.minimum(np.searchsorted(ends, ticks, side="right"), len(order) - 1)
        return rng.permutation(order[places])


def read_mixture(
    sources: Sequence[str | Source | Frame],
    *,
    file_format: str | None = None,
    scratch: Path | None = None,
    columns: Sequence[str] = (),
) -> Mixture:
    """Read several sources, as `read_data` does, and join them.

    Args:
        sources: each a `Source`, its text (`PATH[@IMAGES][=WEIGHT]`), or a pandas data frame.

    Raises:
        DataError: as `read_data`; one unusable source stops the whole.
    """
    parsed = [Source.parse(each) if isinstance(each, str) else each for each in sources]
    sets = [
        read_data(each, file_format=file_format, scratch=scratch, columns=columns)
        for each in parsed
    ]
    return Mixture.of(
        [
            (part, each.weight if isinstance(each, Source) else 1.0)
            for part, each in zip(sets, parsed, strict=True)
        ]
    )
