"""Runs the reference segmenter: VnCoreNLP in a Java virtual machine, through `py_vncorenlp`."""

from __future__ import annotations

import importlib
import os
import threading
from pathlib import Path
from typing import Any

from vireo_client import environment
from vireo_client.errors import SegmenterError
from vireo_client.text.vncorenlp.model_files import cache_folder

JAR_PATTERN = "VnCoreNLP-*.jar"

# A process can start one virtual machine, with one class path: that of the first folder.
_lock = threading.Lock()
_running: tuple[Path, Any] | None = None


class PyVnCoreNLPSegmenter:
    """VnCoreNLP's segmenter in the process's one virtual machine; calls wait for each other.

    Args:
        folder: Holds VnCoreNLP's jar and `models/wordsegmenter`. Without one, `$VIREO_DATA` and
            the user's cache are tried.

    Raises:
        SegmenterError: If the package, its jar or Java is missing, or this process already runs
            VnCoreNLP from another folder.
    """

    name = "py_vncorenlp"

    def __init__(self, folder: Path | None = None) -> None:
        self._model = _start(find_jar_folder(folder).resolve())

    def segment(self, text: str) -> list[str]:
        """Segment a text; see `Segmenter.segment`."""
        with _lock:
            return [str(sentence) for sentence in self._model.word_segment(text)]

    def files(self) -> dict[str, Path]:
        """Return no file: the jar is not ours to distribute; a bundle only names it."""
        return {}


def find_jar_folder(folder: Path | None = None) -> Path:
    """Find the folder that holds VnCoreNLP's jar.

    Raises:
        SegmenterError: If none does.
    """
    places = [folder]
    if folder is None:
        data = environment.data_folder()
        places = [data / "vncorenlp" if data else None, cache_folder().parents[1]]
    for place in places:
        if place is not None and any(place.glob(JAR_PATTERN)):
            return place
    raise SegmenterError(
        f"no {JAR_PATTERN} in {', '.join(str(place) for place in places if place)}; fetch it with "
        "py_vncorenlp.download_model, or choose the segmenter vncorenlp, which needs no Java"
    )


def _start(folder: Path) -> Any:
    global _running
    with _lock:
        if _running is not None:
            if _running[0] != folder:
                raise SegmenterError(
                    f"this process runs VnCoreNLP from {_running[0]} and cannot start it from "
                    f"{folder}; use another process"
                )
            return _running[1]
        try:
            package = importlib.import_module("py_vncorenlp")
        except ImportError as error:
            raise SegmenterError(
                "py_vncorenlp is not installed; pip install 'vireo[segment]', or choose another "
                "segmenter"
            ) from error
        before = Path.cwd()
        try:
            model = package.VnCoreNLP(annotators=["wseg"], save_dir=str(folder))
        except Exception as error:  # py_vncorenlp and the Java bridge raise plain Exception
            raise SegmenterError(f"VnCoreNLP in {folder} does not start: {error}") from error
        finally:
            os.chdir(before)  # the package moves the whole process into its folder
        _running = (folder, model)
        return model
