"""The entry point to every format: `read_data("ktvic/train.json")`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vireo_client.captions import (
    CAPTIONS_FILE,
    CaptionSet,
    Described,
    OutsideError,
    Skip,
    collect,
    describe_lines,
    find_image,
)
from vireo_client.errors import DataError

from . import flickr, frame, json_file, parquet, table, webdataset
from .detect import FORMATS, detect
from .frame import Frame
from .unpacked import Embedded, unpack

_SHARDS = (".tar", ".parquet")
_TEXTS = (".csv", ".tsv", ".json", ".jsonl", ".token")


@dataclass(frozen=True, slots=True)
class Source:
    """One file or folder of captions, as `PATH[@IMAGES][=WEIGHT]` names it on a command line."""

    path: Path
    images: Path | None = None
    """Folder that the file's image names start from; by default they are looked for around it."""
    weight: float = 1.0
    """The rate at which its records are drawn, relative to a source with weight 1."""

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read `captions.json`, `captions.json=2`, `captions.json@images` or `…@images=0.5`.

        A file whose name holds "=" or "@" is found under its whole name first.

        Raises:
            DataError: the weight is not a number above 0.
        """
        path, weight = text, 1.0
        if not Path(text).exists() and "=" in text:
            path, _, number = text.rpartition("=")
            try:
                weight = float(number)
            except ValueError:
                weight = math.nan
            if not (math.isfinite(weight) and weight > 0):
                raise DataError(f"{text}: the weight after = must be a number above 0")
        images = None
        if not Path(path).exists() and "@" in path:
            path, _, folder = path.rpartition("@")
            images = Path(folder)
        return cls(Path(path), images, weight)


def column_names(text: str | None) -> tuple[str, ...]:
    """Read `--columns image,caption`; no names without it."""
    return tuple(name.strip() for name in text.split(",")) if text else ()


def read_data(
    source: str | Path | Source | Frame,
    *,
    file_format: str | None = None,
    scratch: Path | None = None,
    columns: Sequence[str] = (),
) -> CaptionSet:
    """Read captioned images of any known format.

    Args:
        source: a file; a folder with `captions.jsonl`, of tars or parquet files, which are read
            as one, or with one table or JSON file. A text may be `PATH@IMAGES`, as `Source.parse`
            reads it. Or a pandas data frame, whose paths start from the current folder.
        file_format: one of `FORMATS`; by default the one that the content shows.
        scratch: where images that a tar or parquet file carries are unpacked; by default beside
            the file.
        columns: names for the columns of a CSV or TSV file without a header, as ("image",
            "caption").

    Raises:
        DataError: no such file, a format that is not known, no usable record.
        MissingExtraError: the format needs a package that is not installed.
    """
    if isinstance(source, Frame):
        # The program itself names these files, so that they may lie anywhere.
        find = partial(find_image, Path(), anywhere=True)
        return collect(Path(frame.NAME), frame.read(source), find)
    if isinstance(source, str):
        source = Source.parse(source)
    elif isinstance(source, Path):
        source = Source(source)
    if file_format is not None and file_format not in FORMATS:
        raise DataError(f"no format {file_format!r}; there is {', '.join(FORMATS)}")
    if source.images is not None and not source.images.is_dir():
        raise DataError(f"{source.images}: no such folder of images")
    if columns:
        table.check_columns(columns)
    path = source.path
    if not path.is_dir():
        return _read_file(source, file_format, scratch, columns)
    if (path / CAPTIONS_FILE).is_file():
        return _read_file(Source(path / CAPTIONS_FILE, source.images), file_format, scratch)
    shards = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in _SHARDS)
    if not shards:
        return _read_file(Source(_only_file(path), source.images), file_format, scratch, columns)
    return _joined(path, [Source(shard, source.images) for shard in shards], file_format, scratch)


def _only_file(folder: Path) -> Path:
    """Return the one file in `folder` that may hold captions.

    Raises:
        DataError: there is none, or more than one.
    """
    files = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in _TEXTS)
    if len(files) == 1:
        return files[0]
    found = f"several of {', '.join(_TEXTS)}: {', '.join(file.name for file in files[:5])}"
    raise DataError(
        f"{folder}: holds no {CAPTIONS_FILE}, .tar or .parquet, and "
        f"{found if files else f'no {_TEXTS[0]} or .json'}; name the file with the captions"
    )


def _joined(
    folder: Path,
    shards: list[Source],
    file_format: str | None,
    scratch: Path | None,
) -> CaptionSet:
    """Read shards as one set; one that gives nothing is a skip among others."""
    parts: list[CaptionSet] = []
    unusable: list[Skip] = []
    for shard in shards:
        try:
            parts.append(_read_file(shard, file_format, scratch))
        except DataError as error:
            unusable.append(Skip(str(shard.path), str(error)))
    items: list[Described | Skip] = [*unusable]
    for part in parts:
        items += [*part.skipped, *part.left_out]
        items += [Described(str(r.path), str(r.path), r.captions, r.split) for r in part.records]
    return collect(folder, items, Path)


def _read_file(
    source: Source,
    file_format: str | None,
    scratch: Path | None,
    columns: Sequence[str] = (),
) -> CaptionSet:
    path = source.path
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    try:
        return _read_as(source, file_format or detect(path, columns), scratch, columns)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _read_as(source: Source, kind: str, scratch: Path | None, columns: Sequence[str]) -> CaptionSet:
    path = source.path
    if kind == "webdataset" or (kind == "parquet" and parquet.holds_images(path)):
        if source.images is not None:
            raise DataError(f"{path}: carries its images; leave out @{source.images}")
        return unpack(path, _CARRIERS[kind](path), scratch)
    return collect(path, _describe(path, kind, columns), _finder(path, source.images))


_CARRIERS: dict[str, Callable[[Path], Iterator[Embedded | Described | Skip]]] = {
    "webdataset": webdataset.read,
    "parquet": parquet.read,
}


def _describe(path: Path, kind: str, columns: Sequence[str]) -> Iterator[Described | Skip]:
    if kind == "jsonl":
        return describe_lines(path)
    if kind == "flickr":
        return flickr.read(path)
    if kind == "csv":
        return table.read(path, columns)
    if kind == "parquet":
        return parquet.read_paths(path)
    # A file that only looks like JSON shows its layout when it is parsed; a format that was
    # named is used as it is.
    return json_file.read(path, None if kind == "json" else kind)


def _finder(path: Path, images: Path | None) -> Callable[[str], Path]:
    """Look images up in `images`, or around the file; each name once."""
    folder = path.parent
    around = [folder, folder / "images", folder.parent, folder.parent / "images"]
    roots = [images] if images else [root for root in around if root.is_dir()]
    # With @val2014 the name val2014/1.jpg, which COCO's files give, means the same folder.
    named = images.resolve() if images else None
    known: dict[str, Path | OutsideError | None] = {}

    def look(image: str) -> Path | OutsideError | None:
        inside = named is not None and Path(image).parts[:1] == (named.name,)
        outside: OutsideError | None = None
        for root in [*roots, named.parent] if named and inside else roots:
            try:
                return find_image(root, image, within=images or root)
            except OutsideError as error:
                outside = outside or error
            except ValueError:
                continue
        return outside

    def find(image: str) -> Path:
        if image not in known:
            known[image] = look(image)
        file = known[image]
        if isinstance(file, OutsideError):
            raise file
        if file is None:
            hint = "" if images else f"; name the folder of images: {path}@FOLDER"
            raise ValueError(f"no such image: {roots[0] / image}{hint}")
        return file

    return find
