"""JSON files: one parse, then the layout of the document (COCO, Karpathy's, a list, ...)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vireo_client.captions import Described, Skip
from vireo_client.errors import DataError
from vireo_client.fields import joined_keys

from . import coco, evjvqa, json_list, json_map, karpathy


def _plain(path: Path, document: Any) -> Iterator[Described | Skip]:
    """Read a list of objects, or an object keyed by image."""
    if isinstance(document, dict):
        return json_map.read(path, document)
    return json_list.read(path, document)


LAYOUTS: dict[str, Callable[[Path, Any], Iterator[Described | Skip]]] = {
    "coco": coco.read,
    "evjvqa": evjvqa.read,
    "karpathy": karpathy.read,
    "json": _plain,
}


def load_json(path: Path) -> Any:
    """Parse a whole file.

    Raises:
        DataError: it is no JSON in UTF-8; the message names the line.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=joined_keys)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from None
    except ValueError as error:  # a number of more digits than Python reads
        raise DataError(f"{path}: not JSON ({error})") from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply") from None


def layout_of(document: Any, path: Path) -> str:
    """Return the format of a parsed document: a name of `LAYOUTS`.

    Raises:
        DataError: it is none of them.
    """
    if isinstance(document, list) or json_map.is_keyed_by_image(document):
        return "json"
    if isinstance(document, dict) and {"images", "annotations"} <= document.keys():
        first = next(iter(document["annotations"] or ()), None)
        asks = isinstance(first, dict) and "question" in first and "caption" not in first
        return "evjvqa" if asks else "coco"
    if karpathy.holds_captions(document):
        return "karpathy"
    raise DataError(
        f'{path}: neither {{"images", "annotations"}} (COCO, EVJVQA), nor '
        f'{{"images": [{{"filename", "sentences"}}]}} (Karpathy), nor a list '
        'of {"file_name", "caption"}, nor {"a.jpg": {"captions"}}'
    )


def read(path: Path, layout: str | None = None) -> Iterator[Described | Skip]:
    """Yield the records of a JSON file.

    Args:
        layout: a name of `LAYOUTS`; by default that of the document.

    Raises:
        DataError: no JSON, or not of this layout.
    """
    document = load_json(path)
    return LAYOUTS[layout or layout_of(document, path)](path, document)
