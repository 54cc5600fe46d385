"""Reads `captions.jsonl`: one `{"image": path, "captions": [text, ..]}` a line.

Broken lines and missing pictures do not end a run: they are counted and named, with path and line,
so that one bad line in a hundred thousand costs one picture and not the night.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import DataError

logger = logging.getLogger(__name__)

CAPTIONS_FILE = "captions.jsonl"


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """A picture's path and the captions that describe it, at least one."""

    path: Path
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skip:
    """Something left out of a data set: where it stood and why."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class CaptionSet:
    """The usable records of a captions file, in its order, and what was skipped."""

    records: list[CaptionedImage]
    skipped: list[Skip] = field(default_factory=list)


def log_skips(skipped: Sequence[Skip], limit: int = 5) -> None:
    """Logs how much was skipped, and the first few by name."""
    if skipped:
        shown = "; ".join(str(skip) for skip in skipped[:limit])
        more = f"; and {len(skipped) - limit} more" if len(skipped) > limit else ""
        logger.warning("skipped %d: %s%s", len(skipped), shown, more)


def read_captions(source: str | Path) -> CaptionSet:
    """Reads a captions file, or the `captions.jsonl` of a folder.

    Pictures are looked up relative to the file's folder; a name in NFC finds a file in NFD and the
    other way round (macOS writes one, most editors the other). Several lines for one picture are
    joined. Whether a picture decodes is seen when it is loaded.

    Raises:
        DataError: there is no such file, or no usable record in it.
    """
    path = Path(source)
    if path.is_dir():
        path = path / CAPTIONS_FILE
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; a data set is a folder with a {CAPTIONS_FILE} of lines "
            '{"image": "photo.jpg", "captions": ["..."]}'
        )
    captions: dict[Path, list[str]] = {}
    skipped: list[Skip] = []
    for number, line in _numbered_lines(path):
        where = f"{path}:{number}"
        try:
            image, texts = _parse(line)
            found = _find(path.parent, image)
        except ValueError as error:
            skipped.append(Skip(where, str(error)))
            continue
        usable = [text for text in texts if text.strip()]
        if len(usable) < len(texts):
            skipped.append(Skip(where, f"{len(texts) - len(usable)} empty caption(s)"))
        if usable:
            captions.setdefault(found, []).extend(usable)
    # dict.fromkeys: a caption given twice for one picture counts once, and order stays.
    records = [CaptionedImage(p, tuple(dict.fromkeys(texts))) for p, texts in captions.items()]
    if not records:
        detail = f"; {skipped[0]}" if skipped else ""
        raise DataError(f"{path}: no usable picture with a caption{detail}")
    return CaptionSet(records, skipped)


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def _parse(line: bytes) -> tuple[str, list[str]]:
    try:
        record = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not JSON in UTF-8 ({error})") from None
    if not isinstance(record, dict):
        raise ValueError('not an object {"image", "captions"}')
    image, texts = record.get("image"), record.get("captions")
    if not isinstance(image, str) or not image or "\0" in image:
        raise ValueError('"image" must be the path of a picture')
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError('"captions" must be a list of strings')
    return image, texts


def _find(folder: Path, image: str) -> Path:
    """Returns the path in the form of its name (NFC or NFD, part by part) that the disk holds."""
    found = folder
    for part in Path(image).parts:
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        for form in forms:
            if (found / form).exists():
                found = found / form
                break
        else:
            raise ValueError(f"no such picture: {folder / image}")
    if not found.is_file():
        raise ValueError(f"not a file: {found}")
    return found
