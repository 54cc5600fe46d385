"""Word segmenters behind one interface: Vietnamese is written in syllables, models need words."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from vireo_client.errors import SegmenterError
from vireo_client.text.vncorenlp.model_files import FILES as _VNCORENLP_FILES

BUNDLED_FILES = {"vncorenlp": frozenset(_VNCORENLP_FILES)}
"""The files that a bundle may carry for a segmenter, by the segmenter's name; none for others. All
are data. VnCoreNLP's jar is a program, so that `py_vncorenlp` never takes it from a bundle."""

logger = logging.getLogger(__name__)


class Segmenter(Protocol):
    """Joins the syllables of each word. Implementations may be shared by threads."""

    name: str
    """The name that a bundle records."""

    def segment(self, text: str) -> list[str]:
        """Segment one normalised text.

        Returns:
            Its sentences: the syllables of a word joined by `_`, words parted by one blank; `[]`
            for a blank text.
        """
        ...

    def files(self) -> dict[str, Path]:
        """Return the model files that a bundle must carry, by file name."""
        ...


class NoSegmenter:
    """Leaves the words of a text as they are, as one sentence."""

    name = "none"

    def segment(self, text: str) -> list[str]:
        """Return the text with single blanks between its syllables."""
        joined = " ".join(text.split())
        return [joined] if joined else []

    def files(self) -> dict[str, Path]:
        """Return no file."""
        return {}


class RawText:
    """Leaves a text exactly as it is: for models that others trained on unsegmented texts."""

    name = "raw"

    def segment(self, text: str) -> list[str]:
        """Return the text itself."""
        return [text]

    def files(self) -> dict[str, Path]:
        """Return no file."""
        return {}


def _drop_temporary_file(model: Any) -> None:
    """Remove the file that pyvi's model was unpacked to; a process that is killed would leave it.

    The model reads all of the file when it is opened. Windows removes no file that is open.
    """
    if model.tagger_ is not None and sys.platform != "win32":
        Path(model.modelfile.name).unlink(missing_ok=True)


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
        _drop_temporary_file(module.ViTokenizer.model)

    def segment(self, text: str) -> list[str]:
        """Segment a text; see `Segmenter.segment`."""
        joined = " ".join(self._tokenize(text).split()) if text.strip() else ""
        return [joined] if joined else []

    def files(self) -> dict[str, Path]:
        """Return no file: the model is part of the package."""
        return {}


def load_segmenter(name: str, folder: Path | None = None) -> Segmenter:
    """Load a segmenter by its name.

    Args:
        name: `vncorenlp`, `py_vncorenlp`, `pyvi`, `none`, `raw`; or `auto`, the first of
            `vncorenlp`, `pyvi` and `none` that is available, with a warning if that is not the
            first.
        folder: The folder of its files, for a segmenter that has any, such as a bundle's folder.
            Without it they are looked for, see `model_files.py`.

    Raises:
        SegmenterError: If the name is unknown, or the segmenter or its files are not available.
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
    # Imported here, as the others: a process uses one segmenter and should not load the rest.
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
"""The names that `load_segmenter` takes."""
