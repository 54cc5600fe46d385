"""Word segmenters behind one interface: Vietnamese writes syllables apart, models want words."""

from __future__ import annotations

from typing import Protocol

from ..errors import MissingExtraError, SegmenterError


class Segmenter(Protocol):
    """Joins the syllables of each word with `_`."""

    name: str

    def segment(self, text: str) -> str:
        """Segments one normalised text; words are separated by single blanks."""
        ...


class NoSegmenter:
    """Leaves the text as it is."""

    name = "none"

    def segment(self, text: str) -> str:
        return text


class PyviSegmenter:
    """pyvi's conditional random field, whose model comes in its package.

    Raises:
        MissingExtraError: pyvi is not installed.
    """

    name = "pyvi"

    def __init__(self) -> None:
        try:
            from pyvi import ViTokenizer
        except ImportError:
            raise MissingExtraError("pyvi", "segment") from None
        self._tokenize = ViTokenizer.tokenize

    def segment(self, text: str) -> str:
        return str(self._tokenize(text)) if text else ""


_SEGMENTERS: dict[str, type[Segmenter]] = {"none": NoSegmenter, "pyvi": PyviSegmenter}


def load_segmenter(name: str) -> Segmenter:
    """Gives the segmenter called `name`.

    Raises:
        SegmenterError: there is none of that name.
        MissingExtraError: its package is not installed.
    """
    if name not in _SEGMENTERS:
        raise SegmenterError(f"segmenter {name!r} is unknown; there are {sorted(_SEGMENTERS)}")
    return _SEGMENTERS[name]()
