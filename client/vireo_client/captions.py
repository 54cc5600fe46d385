"""Reads `captions.jsonl`: one `{"image": path, "captions": [text, ..]}` a line.

The fields may have the other names that `fields` knows, and a line may say to which `"split"` its
image belongs. Broken lines and missing images do not end a run: they are counted and named, with
path and line, so that one bad line in a hundred thousand costs one image and not the whole run.
`collect` does the same for the readers of other formats.
"""

from __future__ import annotations

import json
import logging
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from . import environment
from .errors import DataError
from .fields import described, joined_keys, split_named
from .printing import printable

logger = logging.getLogger(__name__)

CAPTIONS_FILE = "captions.jsonl"

MAX_CAPTION = 20_000
"""Letters of a caption; no model reads a tenth of them."""
MAX_LINE_BYTES = 16 << 20
"""The longest line of a file; a longer one is skipped and never held in memory."""

T = TypeVar("T")


class OutsideError(ValueError):
    """An image that a data set names lies outside the data set's folder."""


_NO_FIELDS: Mapping[str, str | int | float] = {}
"""One for all images without fields: a folder may have millions."""


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """The path of an image and its captions."""

    path: Path
    captions: tuple[str, ...]
    split: str | None = None
    """"train", "validation" or "test", where the data says so."""
    fields: Mapping[str, str | int | float] = field(default_factory=lambda: _NO_FIELDS, hash=False)
    """The user's own columns."""


@dataclass(frozen=True, slots=True)
class Skip:
    """A record that was skipped because something is wrong with it: its place, and the reason."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"

    @classmethod
    def of(cls, where: str | Path, error: Exception) -> Skip:
        """Make a skip of an error whose message may begin with the name already."""
        return cls(str(where), str(error).removeprefix(f"{where}: "))


@dataclass(frozen=True, slots=True)
class LeftOut(Skip):
    """A caption that was left out though nothing is wrong with it.

    It repeats another one, or is in another language.
    """


@dataclass(frozen=True, slots=True)
class Described:
    """One record of a file as it was read, before anything is checked."""

    where: str
    """The file and the line or record, for a person."""
    image: str
    """The name of the image in the file."""
    captions: Sequence[object]
    """The captions: strings, if the file is sound."""
    split: object = None
    """The split as the file names it, or None."""
    fields: Mapping[str, str | int | float] = field(default_factory=lambda: _NO_FIELDS, hash=False)
    """The user's own columns."""


@dataclass(frozen=True, slots=True)
class CaptionSet:
    """The usable records of a captions file, in its order, with those that were skipped."""

    records: list[CaptionedImage]
    skipped: list[Skip] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def log_skips(skipped: Sequence[Skip], limit: int = 5) -> None:
    """Log the number of skips, and the first few of them."""
    if skipped:
        shown = "; ".join(map(printable, skipped[:limit]))
        more = f"; and {len(skipped) - limit} more" if len(skipped) > limit else ""
        logger.warning("skipped %d: %s%s", len(skipped), shown, more)


def read_captions(source: str | Path) -> CaptionSet:
    """Read a captions file, or the `captions.jsonl` of a folder.

    Images are looked up relative to the file's folder. A name in NFC finds a file in NFD and the
    other way round: macOS writes one form, most editors the other. Several lines for one image are
    joined. The images are not opened.

    An image must lie below the file's folder: whoever wrote the file could name any image of this
    machine. `VIREO_ALLOW_OUTSIDE=1` allows others.

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
    return collect(path, describe_lines(path), lambda image: find_image(path.parent, image))


def collect(
    source: Path,
    items: Iterable[Described | Skip],
    find: Callable[[str], Path],
    *,
    bare: bool = False,
) -> CaptionSet:
    """Check the records of a reader, and join those of one image.

    Args:
        source: the data set, for the message.
        items: the records in the file's order, and the skips that the reader found itself.
        find: returns the path of an image by its name in the file, or raises ValueError.
        bare: whether images without a caption are usable.

    Raises:
        DataError: nothing is usable.
    """
    captions: dict[Path, dict[str, str]] = {}
    splits: dict[Path, str] = {}
    fields: dict[Path, dict[str, str | int | float]] = {}
    unknown: set[str] = set()
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
            path = find(item.image)
        except ValueError as error:
            skipped.append(Skip(item.where, _legible(str(error))))
            continue
        split = split_named(item.split)
        if split is not None and splits.setdefault(path, split) != split:
            skipped.append(Skip(item.where, f"its image is in the {splits[path]} split already"))
            continue
        if split is None and item.split not in (None, ""):
            unknown.add(_legible(str(item.split)))
        if item.fields:
            fields.setdefault(path, {}).update(item.fields)
        if bare:
            captions.setdefault(path, {})
        texts = [t for t in item.captions if isinstance(t, str) and t == _legible(t)]
        if len(texts) < len(item.captions):
            number = len(item.captions) - len(texts)
            skipped.append(Skip(item.where, f"{number} caption(s) that are no text"))
        short = [text for text in texts if len(text) <= MAX_CAPTION]
        if len(short) < len(texts):
            reason = f"{len(texts) - len(short)} caption(s) of more than {MAX_CAPTION} letters"
            skipped.append(Skip(item.where, reason))
            texts = short
        usable = [text for text in texts if text.strip()]
        if len(usable) < len(texts):
            skipped.append(Skip(item.where, f"{len(texts) - len(usable)} empty caption(s)"))
        for text in usable:
            known, key = captions.setdefault(path, {}), same_text(text)
            if key in known:
                left_out.append(LeftOut(item.where, "repeats a caption of its image"))
            else:
                known[key] = text
    if unknown:
        logger.warning(
            "%s: not train, val or test, so its images are divided like those without a split: %s",
            source,
            ", ".join(sorted(unknown)[:5]),
        )
    records = [
        CaptionedImage(p, tuple(texts.values()), splits.get(p), fields.get(p, {}))
        for p, texts in captions.items()
    ]
    if not records:
        detail = f"; {len(skipped)} skipped, the first: {skipped[0]}" if skipped else ""
        what = "no usable image" if bare else "no usable image with a caption"
        raise DataError(f"{source}: {what}{detail}")
    return CaptionSet(records, skipped, left_out)


def _legible(text: str) -> str:
    """Spell out lone surrogates: JSON may hold them, but no file can be written with them."""
    return text.encode("utf-8", "backslashreplace").decode()


def same_text(caption: str) -> str:
    """Return the key that captions share which differ in Unicode form or white space only."""
    return " ".join(unicodedata.normalize("NFC", caption).split())


def held_out(*splits: str | None) -> str | None:
    """Return the split of an image that has several: what is measured on is not trained on."""
    return next((name for name in ("test", "validation", "train") if name in splits), None)


def describe_lines(path: Path) -> Iterator[Described | Skip]:
    """Yield one item a line of a captions file."""
    return read_json_lines(path, lambda where, record: Described(where, *described(record)))


def read_json_lines(path: Path, read: Callable[[str, dict[str, object]], T]) -> Iterator[T | Skip]:
    """Read a file of JSON objects, one a line; blank lines are passed over.

    Args:
        path: the file.
        read: makes an item of a line's place and its object; what it raises as ValueError becomes a
            skip, as does a line that is too long or holds no object.
    """
    with path.open("rb") as file:
        for number, line in numbered_lines(file):
            where = f"{path}:{number}"
            try:
                if line is None:
                    raise ValueError(f"a line of more than {MAX_LINE_BYTES:,} bytes")
                if line.strip():
                    yield read(where, parse_object(line))
            except ValueError as error:
                yield Skip(where, str(error))


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line with its number from 1; None for a line that is too long."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) <= MAX_LINE_BYTES:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)
        yield number, None


def parse_object(data: bytes) -> dict[str, object]:
    """Parse one JSON object; values of a repeated key are joined.

    Raises:
        ValueError: it is none.
    """
    try:
        record = json.loads(data, object_pairs_hook=joined_keys)
    except (ValueError, RecursionError, MemoryError) as error:  # a number may have many digits
        raise ValueError(f"not JSON in UTF-8 ({error})") from None
    if not isinstance(record, dict):
        raise ValueError('not an object {"image", "captions"}')
    return record


def find_image(
    folder: Path, image: str, *, within: Path | None = None, anywhere: bool = False
) -> Path:
    """Find an image whose name may be written in NFC or in NFD.

    Each part of the path may have the other form on disk.

    Args:
        folder: the folder that the name starts from.
        image: the name.
        within: the folder below which the image must lie, links followed; by default `folder`.
        anywhere: allow any place, as `VIREO_ALLOW_OUTSIDE=1` does.

    Returns:
        The path as it is on disk.

    Raises:
        OutsideError: the file does not lie below `within`.
        ValueError: there is no such file.
    """
    path = folder
    try:
        for part in Path(image).parts:
            forms = (
                part,
                unicodedata.normalize("NFC", part),
                unicodedata.normalize("NFD", part),
            )
            for form in forms:
                if (path / form).exists():
                    path = path / form
                    break
            else:
                raise ValueError(f"no such image: {folder / image}")
        usable = path.is_file()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise ValueError(f"no such image: {folder / image} ({error.strerror})") from None
    if not usable:
        raise ValueError(f"not a file: {path}")
    if not anywhere and not environment.allow_outside():
        real, root = os.path.realpath(path), os.path.realpath(within or folder)
        if os.path.commonpath([real, root]) != root:
            raise OutsideError(
                f"{path}: lies outside {within or folder}; set {environment.ALLOW_OUTSIDE}=1 if "
                "you trust whoever wrote this file"
            )
    return path
