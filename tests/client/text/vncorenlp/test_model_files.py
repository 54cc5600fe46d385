from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.text_models import write_model
from vireo_client.errors import SegmenterError
from vireo_client.text.vncorenlp import download, model_files
from vireo_client.text.vncorenlp.model_files import cache_folder, find_model


class _Handler(http.server.SimpleHTTPRequestHandler):
    broken = False

    def do_GET(self) -> None:
        if not self.broken:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")  # and the connection closes

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Handler]]:
    """Serves the small model; its checksums are the expected ones; nothing is elsewhere."""
    source = write_model(tmp_path / "source")
    handler = type("Handler", (_Handler,), {})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: handler(*arguments, directory=str(source))
    ) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        monkeypatch.setenv("VIREO_VNCORENLP_URL", f"http://127.0.0.1:{http_server.server_port}/")
        monkeypatch.delenv("VIREO_DATA", raising=False)
        monkeypatch.delenv("VIREO_OFFLINE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        sums = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in source.iterdir()
        }
        monkeypatch.setattr(model_files, "FILES", sums)
        yield handler
        http_server.shutdown()


def _left_over() -> list[str]:
    return [path.name for path in cache_folder().glob("*")]


def test_downloads_once_into_the_cache(
    server: type[_Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = find_model()
    assert folder == cache_folder()
    assert sorted(_left_over()) == ["vi-vocab", "wordsegmenter.rdr"]
    monkeypatch.setenv("VIREO_OFFLINE", "1")
    assert find_model() == folder


def test_a_wrong_checksum_leaves_nothing(
    server: type[_Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "FILES", {"vi-vocab": "0" * 64})
    with pytest.raises(SegmenterError, match="SHA-256"):
        find_model()
    assert _left_over() == []


def test_a_download_that_breaks_off_leaves_nothing(server: type[_Handler]) -> None:
    server.broken = True
    with pytest.raises(SegmenterError, match=r"broke off after 4 of 1000|IncompleteRead"):
        find_model()
    assert _left_over() == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nothing", "http://127.0.0.1:9/\n"])
def test_no_server(server: type[_Handler], monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("VIREO_VNCORENLP_URL", url)
    with pytest.raises(SegmenterError, match="cannot be downloaded"):
        find_model()
    assert _left_over() == []


def test_a_file_that_is_not_there(server: type[_Handler], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "FILES", {"missing": "0" * 64})
    with pytest.raises(SegmenterError, match="404"):
        find_model()


def test_far_too_long_a_file_is_refused(
    server: type[_Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_MAX_BYTES", 10)
    with pytest.raises(SegmenterError, match="MiB arrived"):
        find_model()


def test_a_cache_that_cannot_be_written(
    server: type[_Handler], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SegmenterError, match="cannot be downloaded"):
        find_model()


def test_a_given_folder_is_the_only_place(server: type[_Handler], tmp_path: Path) -> None:
    with pytest.raises(SegmenterError, match="holds no vi-vocab"):
        find_model(tmp_path)
    nested = write_model(tmp_path / "nested" / "models" / "wordsegmenter")
    assert find_model(tmp_path / "nested") == nested


def test_the_data_folder_comes_before_the_cache(
    server: type[_Handler], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "data" / "vncorenlp" / "models" / "wordsegmenter")
    monkeypatch.setenv("VIREO_DATA", str(tmp_path / "data"))
    assert find_model() == model
    assert _left_over() == []


def test_a_relative_cache_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder().is_relative_to(tmp_path / ".cache" / "vireo")
