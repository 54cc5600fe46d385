"""Reads `captions.jsonl`: one `{"image": path, "captions": [text, ..]}` a line.

A line may carry a single `"caption": text` instead. Broken lines and missing pictures do not end a
run: they are counted and named, with path and line, so that one bad line in a hundred thousand
costs one picture and not the night. `collect` does the same for the readers of other formats.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
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

    @classmethod
    def of(cls, where: str | Path, error: Exception) -> Skip:
        """A skip for an error whose message may begin with the name already."""
        return cls(str(where), str(error).removeprefix(f"{where}: "))


@dataclass(frozen=True, slots=True)
class LeftOut(Skip):
    """Something sound that is not wanted: a caption said twice, a sentence in another language."""


@dataclass(frozen=True, slots=True)
class Described:
    """What one record of a file says, before anything is checked."""

    where: str
    """File and line or record, for a person."""
    image: str
    """The picture, as the file names it."""
    captions: Sequence[object]
    """Texts, if the file is sound."""


@dataclass(frozen=True, slots=True)
class CaptionSet:
    """The usable records of a captions file, in its order, and what was skipped."""

    records: list[CaptionedImage]
    skipped: list[Skip] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


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
    return collect(path, describe_lines(path), lambda image: find_picture(path.parent, image))


def collect(
    source: Path, items: Iterable[Described | Skip], find: Callable[[str], Path]
) -> CaptionSet:
    """Makes records of what a reader found: checks each, and joins those of one picture.

    Args:
        source: what was read, for the message.
        items: in the file's order; a reader yields a `Skip` or `LeftOut` where it can tell itself.
        find: gives the path of a picture by the name the file uses; ValueError says why not.

    Raises:
        DataError: nothing is usable.
    """
    captions: dict[Path, dict[str, str]] = {}
    skipped: list[Skip] = []
    left_out: list[LeftOut] = []
    for item in items:
        if isinstance(item, LeftOut):
            left_out.append(LeftOut(_legible(item.where), _legible(item.reason)))
            continue
        if isinstance(item, Skip):
            skipped.append(Skip(_legible(item.where), _legible(item.reason)))
            continue
        try:
            found = find(item.image)
        except ValueError as error:
            skipped.append(Skip(item.where, _legible(str(error))))
            continue
        texts = [t for t in item.captions if isinstance(t, str) and t == _legible(t)]
        if len(texts) < len(item.captions):
            number = len(item.captions) - len(texts)
            skipped.append(Skip(item.where, f"{number} caption(s) that are no text"))
        usable = [text for text in texts if text.strip()]
        if len(usable) < len(texts):
            skipped.append(Skip(item.where, f"{len(texts) - len(usable)} empty caption(s)"))
        for text in usable:
            known, key = captions.setdefault(found, {}), same_text(text)
            if key in known:
                left_out.append(LeftOut(item.where, "repeats a caption of its picture"))
            else:
                known[key] = text
    records = [CaptionedImage(p, tuple(texts.values())) for p, texts in captions.items()]
    if not records:
        detail = f"; {len(skipped)} skipped, the first: {skipped[0]}" if skipped else ""
        raise DataError(f"{source}: no usable picture with a caption{detail}")
    return CaptionSet(records, skipped, left_out)


def _legible(text: str) -> str:
    """Spells out halves of surrogate pairs: JSON may hold them, and nothing can write them."""
    return text.encode("utf-8", "backslashreplace").decode()


def same_text(caption: str) -> str:
    """Gives one key to captions that differ in Unicode form or white space only."""
    return " ".join(unicodedata.normalize("NFC", caption).split())


def describe_lines(path: Path) -> Iterator[Described | Skip]:
    """Yields one item a line of a captions file."""
    for number, line in _numbered_lines(path):
        where = f"{path}:{number}"
        try:
            image, texts = _parse(line)
        except ValueError as error:
            yield Skip(where, str(error))
        else:
            yield Described(where, image, texts)


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def _parse(line: bytes) -> tuple[str, list[str]]:
    try:
        record = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON in UTF-8 ({error})") from None
    if not isinstance(record, dict):
        raise ValueError('not an object {"image", "captions"}')
    image, texts = record.get("image"), record.get("captions")
    if texts is None and isinstance(record.get("caption"), str):
        texts = [record["caption"]]
    if not isinstance(image, str) or not image or "\0" in image:
        raise ValueError('"image" must be the path of a picture')
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError('"captions" must be a list of strings')
    return image, texts


def find_picture(folder: Path, image: str) -> Path:
    """Returns the path in the form of its name (NFC or NFD, part by part) that the disk holds.

    Raises:
        ValueError: there is no such file below `folder`.
    """
    found = folder
    try:
        for part in Path(image).parts:
            forms = (
                part,
                unicodedata.normalize("NFC", part),
                unicodedata.normalize("NFD", part),
            )
            for form in forms:
                if (found / form).exists():
                    found = found / form
                    break
            else:
                raise ValueError(f"no such picture: {folder / image}")
        usable = found.is_file()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise ValueError(f"no such picture: {folder / image} ({error.strerror})") from None
    if not usable:
        raise ValueError(f"not a file: {found}")
    return found
