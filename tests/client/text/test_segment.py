from __future__ import annotations

import logging
import os
import signal
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.processes import run_python
from support.text_models import write_model
from vireo_client.errors import SegmenterError
from vireo_client.text.segment import NAMES, load_segmenter
from vireo_client.text.vncorenlp import jvm


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No model anywhere, no downloads."""
    monkeypatch.delenv("VIREO_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VIREO_OFFLINE", "1")


def _hide(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]  # makes import fail


def test_none_leaves_the_syllables() -> None:
    segmenter = load_segmenter("none")
    assert segmenter.segment(" xe  hơi ") == ["xe hơi"]
    assert segmenter.segment(" ") == []
    assert segmenter.files() == {}


def test_pyvi_joins_words() -> None:
    pytest.importorskip("pyvi", reason="the pyvi segmenter needs its package")
    segmenter = load_segmenter("pyvi")
    assert segmenter.segment("học sinh đi học") == ["học_sinh đi học"]
    assert segmenter.segment("") == []
    assert segmenter.name == "pyvi"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no file that is open")
def test_pyvi_leaves_no_file_when_it_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("pyvi", reason="the pyvi segmenter needs its package")
    code = """
        import os, signal
        from vireo_client.text.segment import load_segmenter
        segmenter = load_segmenter("pyvi")
        print(segmenter.segment("sinh viên đi học"))
        load_segmenter("pyvi")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run_python("-uc", textwrap.dedent(code), TMPDIR=str(tmp_path))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "sinh_viên" in done.stdout
    assert list(tmp_path.glob("*.crfsuite")) == []


def test_pyvi_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "pyvi.ViTokenizer")
    with pytest.raises(SegmenterError, match="pyvi is not installed; pip install"):
        load_segmenter("pyvi")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SegmenterError, match=", ".join(NAMES)):
        load_segmenter("jieba")


def test_vncorenlp_offline_without_files_says_what_to_do() -> None:
    with pytest.raises(SegmenterError, match=r"VIREO_OFFLINE is set.*put vi-vocab"):
        load_segmenter("vncorenlp")


def test_auto_prefers_vncorenlp(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load_segmenter("auto", write_model(tmp_path / "model")).name == "vncorenlp"
    assert not caplog.records


def test_auto_falls_back_with_a_warning_that_names_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("pyvi", reason="the fallback needs its package")
    with caplog.at_level(logging.WARNING):
        assert load_segmenter("auto").name == "pyvi"
    assert "trying pyvi instead" in caplog.text
    _hide(monkeypatch, "pyvi.ViTokenizer")
    with caplog.at_level(logging.WARNING):
        assert load_segmenter("auto").name == "none"
    assert "trying none instead" in caplog.text


class _FakeVnCoreNLP:
    """Does as the package does: moves the process into its folder."""

    def __init__(self, annotators: list[str], save_dir: str) -> None:
        assert annotators == ["wseg"]
        os.chdir(save_dir)
        if (Path(save_dir) / "broken").exists():
            raise RuntimeError("no Java")

    def word_segment(self, text: str) -> list[str]:
        return [text.replace(" ", "_")]


@pytest.fixture
def jar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    module: Any = ModuleType("py_vncorenlp")
    module.VnCoreNLP = _FakeVnCoreNLP
    monkeypatch.setitem(sys.modules, "py_vncorenlp", module)
    monkeypatch.setattr(jvm, "_running", None)
    folder = tmp_path / "jar"
    folder.mkdir()
    (folder / "VnCoreNLP-1.2.jar").touch()
    return folder


def test_py_vncorenlp_restores_the_working_directory(jar: Path) -> None:
    before = Path.cwd()
    segmenter = load_segmenter("py_vncorenlp", jar)
    assert segmenter.segment("xe hơi") == ["xe_hơi"]
    assert Path.cwd() == before


def test_py_vncorenlp_restores_it_after_a_failure(jar: Path) -> None:
    (jar / "broken").touch()
    before = Path.cwd()
    with pytest.raises(SegmenterError, match="does not start: no Java"):
        load_segmenter("py_vncorenlp", jar)
    assert Path.cwd() == before


def test_one_virtual_machine_a_process(jar: Path, tmp_path: Path) -> None:
    load_segmenter("py_vncorenlp", jar)
    load_segmenter("py_vncorenlp", jar)
    other = tmp_path / "other"
    other.mkdir()
    (other / "VnCoreNLP-1.2.jar").touch()
    with pytest.raises(SegmenterError, match="use another process"):
        load_segmenter("py_vncorenlp", other)


def test_py_vncorenlp_without_jar_or_package(
    jar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SegmenterError, match="which needs no Java"):
        load_segmenter("py_vncorenlp", tmp_path / "empty")
    _hide(monkeypatch, "py_vncorenlp")
    with pytest.raises(SegmenterError, match="py_vncorenlp is not installed; pip install"):
        load_segmenter("py_vncorenlp", jar)
