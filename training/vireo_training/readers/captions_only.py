"""Captions without images, in the groups that describe the same thing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from vireo_client.captions import Skip, same_text
from vireo_client.errors import DataError
from vireo_client.fields import captions_of


class CaptionGroups(NamedTuple):
    """The groups that could be read, and the lines that were skipped."""

    groups: list[tuple[str, ...]]
    """Each at least one caption; captions of a group say the same in other words."""
    skipped: list[Skip]


def read_caption_groups(path: Path) -> CaptionGroups:
    """Read JSON lines of `{"captions": [text, ..]}` or `{"caption": text}`; other keys are free.

    Raises:
        DataError: no such file, or no usable caption in it.
    """
    groups: list[tuple[str, ...]] = []
    skipped: list[Skip] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            texts = _parse(line)
        except ValueError as error:
            skipped.append(Skip(f"{path}:{number}", str(error)))
        else:
            groups.append(texts)
    if not groups:
        detail = f"; {len(skipped)} skipped, the first: {skipped[0]}" if skipped else ""
        raise DataError(f"{path}: no captions{detail}")
    return CaptionGroups(groups, skipped)


def _parse(line: str) -> tuple[str, ...]:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(record, dict):
        raise ValueError('not an object {"captions": [text, ..]}')
    texts = [text for text in captions_of(record, list(record)) if isinstance(text, str)]
    if len(texts) < len(captions_of(record, list(record))):
        raise ValueError('no {"captions": [text, ..]}')
    usable = {same_text(text): text for text in texts if text.strip()}
    if not usable:
        raise ValueError("only empty captions")
    return tuple(usable.values())
