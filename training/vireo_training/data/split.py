"""Division of captioned images into training, validation and test, each image in one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vireo_client.bundle import file_sha256
from vireo_client.captions import CaptionedImage, LeftOut, Skip, held_out, same_text
from vireo_client.progress import track


class Split(NamedTuple):
    """Records of one data set, divided by image."""

    train: list[CaptionedImage]
    validation: list[CaptionedImage]
    test: list[CaptionedImage]
    unreadable: list[Skip]
    """Images whose files cannot be read: they are in no part."""
    bounds: Bounds | None = None
    """The bounds of the division, which make it again on the same images and on more."""


class Bounds(NamedTuple):
    """Where the parts end, on the line from 0 to 1 on which a hash places every image."""

    test: float
    """Images below it are for the test."""
    validation: float
    """Images below it, and not for the test, are for validation; the rest trains."""


def split_by_image(
    records: Sequence[CaptionedImage],
    validation: float,
    test: float,
    seed: int,
    bounds: Bounds | None = None,
) -> Split:
    """Divide records so that no image is in two parts.

    An image whose data names its split goes there. A hash of an image's bytes and `seed` gives each
    other one a place between 0 and 1. In that order the first are for the test, the next for
    validation, as many as the fractions say, and the rest trains. The bounds between them belong
    to the division: with them, images added later move none of the old ones. Copies under other
    names are one record with the captions of all, since two records of one image would be each
    other's wrong answers; of their splits `held_out` chooses.

    Args:
        records: captioned images.
        validation, test: the fractions that go there, to the nearest image.
        seed: another seed is another division.
        bounds: those of an earlier division, instead of the fractions.
    """
    images, unreadable = _by_content(records)
    places = {content: _place(content, seed) for content, r in images.items() if r.split is None}
    if bounds is None:
        bounds = _bounds(sorted(places.values()), validation, test)
    split = Split([], [], [], unreadable, bounds)
    for content, record in images.items():
        if record.split is not None:
            getattr(split, record.split).append(record)
        elif places[content] < bounds.test:
            split.test.append(record)
        elif places[content] < bounds.validation:
            split.validation.append(record)
        else:
            split.train.append(record)
    return split


def _place(content: str, seed: int) -> float:
    key = f"{seed}:{content}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64


def _bounds(places: Sequence[float], validation: float, test: float) -> Bounds:
    """Return the bounds that leave as many of the sorted `places` below them as asked for."""
    ends = [*places, 1.0]
    # Rounded as sums, so that what trains is exact as well: 147, 31 and 32 of 210, not 146.
    return Bounds(ends[round(test * len(places))], ends[round((test + validation) * len(places))])


def hold_out(records: Sequence[CaptionedImage], validation: Sequence[CaptionedImage]) -> Split:
    """Validate on `validation`, and train on the records that are not in it.

    Where the data names splits, it validates on what is for validation (on all of `validation` if
    nothing is), and trains on nothing that is for validation or test.

    Returns:
        A split whose test part is what `records` name so; images of `records` whose bytes are in
        `validation` too are named under `unreadable`.
    """
    named = [record for record in validation if record.split == "validation"]
    held, unreadable = _by_content(named or validation)
    images, more = _by_content(records)
    rest = {content: record for content, record in images.items() if content not in held}
    leaks = [
        LeftOut(str(record.path), f"is in the validation set as well, as {held[content].path}")
        for content, record in images.items()
        if content in held and record.split in (None, "train")
    ]
    train = [record for record in rest.values() if record.split in (None, "train")]
    test = [record for record in rest.values() if record.split == "test"]
    return Split(train, list(held.values()), test, [*unreadable, *more, *leaks])


def _by_content(
    records: Iterable[CaptionedImage],
) -> tuple[dict[str, CaptionedImage], list[Skip]]:
    """Return records by the hash of their image's bytes, copies joined, and unreadable files."""
    by_content: dict[str, CaptionedImage] = {}
    unreadable: list[Skip] = []
    for record in track(list(records), "look for copies"):
        try:
            content = file_sha256(record.path)
        except OSError as error:
            unreadable.append(Skip(str(record.path), str(error.strerror)))
            continue
        first = by_content.setdefault(content, record)
        if first is not record:
            texts = {same_text(text): text for text in (*record.captions, *first.captions)}
            ordered = dict.fromkeys(map(same_text, (*first.captions, *record.captions)))
            joined = tuple(texts[key] for key in ordered)
            split = held_out(first.split, record.split)
            by_content[content] = CaptionedImage(first.path, joined, split)
    return by_content, unreadable
