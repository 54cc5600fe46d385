"""Word segmenters behind one interface: Vietnamese writes syllables apart, models want words."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from vireo_client.errors import SegmenterError

logger = logging.getLogger(__name__)


class Segmenter(Protocol):
    """Joins the syllables of each word. Implementations may be shared by threads."""

    name: str
    """What a bundle calls it."""

    def segment(self, text: str) -> list[str]:
        """Segments one normalised text.

        Returns:
            Its sentences: the syllables of a word joined by `_`, words parted by one blank; `[]`
            for a blank text.
        """
        ...

    def files(self) -> dict[str, Path]:
        """The model files that a bundle must carry so that it needs nothing else, by name."""
        ...


class NoSegmenter:
    """Leaves a text as it is, one sentence."""

    name = "none"

    def segment(self, text: str) -> list[str]:
        """Gives the text back, single blanks between its syllables."""
        joined = " ".join(text.split())
        return [joined] if joined else []

    def files(self) -> dict[str, Path]:
        """None."""
        return {}


class RawText:
    """Leaves a text as it is, to the last blank: for models that others trained on whole texts."""

    name = "raw"

    def segment(self, text: str) -> list[str]:
        """Gives the text back."""
        return [text]

    def files(self) -> dict[str, Path]:
        """None."""
        return {}


class PyViSegmenter:
    """pyvi's conditional random field, which carries its own model. It does not split sentences.

    Raises:
        SegmenterError: If pyvi is not installed.
    """

    name = "pyvi"

    def __init__(self) -> None:
        try:
            module = importlib.import_module("pyvi.ViTokenizer")
        except ImportError as error:
            raise SegmenterError(
                "pyvi is not installed; pip install 'vireo[segment]', or choose another segmenter"
            ) from error
        self._tokenize: Callable[[str], str] = module.tokenize

    def segment(self, text: str) -> list[str]:
        """Segments a text; see `Segmenter.segment`."""
        joined = " ".join(self._tokenize(text).split()) if text.strip() else ""
        return [joined] if joined else []

    def files(self) -> dict[str, Path]:
        """None: the model is part of the package."""
        return {}


def load_segmenter(name: str, folder: Path | None = None) -> Segmenter:
    """Loads a segmenter by its name.

    Args:
        name: `vncorenlp`, `py_vncorenlp`, `pyvi`, `none`, `raw`; or `auto`, the first of
            `vncorenlp`, `pyvi` and `none` that can be had, with a warning if that is not the first.
        folder: Where its files are, for those that have any; a bundle's folder is one. Without it
            they are looked for, see `model_files.py`.

    Raises:
        SegmenterError: If the name is unknown, or the segmenter or its files cannot be had.
    """
    if name == "auto":
        return _first_available(folder)
    if name not in _LOADERS:
        raise SegmenterError(f"unknown segmenter {name!r}; choose one of {', '.join(NAMES)}")
    return _LOADERS[name](folder)


def _first_available(folder: Path | None) -> Segmenter:
    for name in ("vncorenlp", "pyvi"):
        try:
            return _LOADERS[name](folder)
        except SegmenterError as error:
            following = "pyvi" if name == "vncorenlp" else "none"
            logger.warning("segmenter %s: %s; trying %s instead", name, error, following)
    return NoSegmenter()


def _vncorenlp(folder: Path | None) -> Segmenter:
    # Imported here, as the others: one process uses one segmenter, and starts as fast as that one.
    from vireo_client.text.vncorenlp.model_files import find_model
    from vireo_client.text.vncorenlp.segmenter import VnCoreNLPSegmenter

    return VnCoreNLPSegmenter(find_model(folder))


def _py_vncorenlp(folder: Path | None) -> Segmenter:
    from vireo_client.text.vncorenlp.jvm import PyVnCoreNLPSegmenter

    return PyVnCoreNLPSegmenter(folder)


_LOADERS: dict[str, Callable[[Path | None], Segmenter]] = {
    "vncorenlp": _vncorenlp,
    "py_vncorenlp": _py_vncorenlp,
    "pyvi": lambda folder: PyViSegmenter(),
    "none": lambda folder: NoSegmenter(),
    "raw": lambda folder: RawText(),
}
NAMES = ("auto", *_LOADERS)
"""What `load_segmenter` takes."""
