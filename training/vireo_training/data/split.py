"""Division of captioned images into training, validation and test, each image in one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vireo_client.bundle import file_sha256
from vireo_client.captions import CaptionedImage, LeftOut, Skip, same_text
from vireo_client.progress import track


class Split(NamedTuple):
    """Records of one data set, divided by image."""

    train: list[CaptionedImage]
    validation: list[CaptionedImage]
    test: list[CaptionedImage]
    unreadable: list[Skip]
    """Images whose files cannot be read: they are in no part."""


def split_by_image(
    records: Sequence[CaptionedImage], validation: float, test: float, seed: int
) -> Split:
    """Divide records so that no image is in two parts.

    An image's part follows from a hash of its bytes and `seed`: images added later move none of
    the old ones. Copies under other names are one record with the captions of all, since two
    records of one image would be each other's wrong answers.

    Args:
        records: captioned images.
        validation, test: the fractions that go there, approximately; the rest trains.
        seed: another seed is another division.
    """
    split = Split([], [], [], [])
    images, unreadable = _by_content(records)
    split.unreadable.extend(unreadable)
    for content, record in images.items():
        key = f"{seed}:{content}".encode()
        draw = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64
        if draw < test:
            split.test.append(record)
        elif draw < test + validation:
            split.validation.append(record)
        else:
            split.train.append(record)
    return split


def hold_out(records: Sequence[CaptionedImage], validation: Sequence[CaptionedImage]) -> Split:
    """Validate on all of `validation`, and train on the records that are not in it.

    Returns:
        A split without a test part; images of `records` whose bytes are in `validation` too are
        named under `unreadable`.
    """
    held, unreadable = _by_content(validation)
    images, more = _by_content(records)
    leaks = [
        LeftOut(str(record.path), f"is in the validation set as well, as {held[content].path}")
        for content, record in images.items()
        if content in held
    ]
    train = [record for content, record in images.items() if content not in held]
    return Split(train, list(held.values()), [], [*unreadable, *more, *leaks])


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
            by_content[content] = CaptionedImage(first.path, joined)
    return by_content, unreadable
