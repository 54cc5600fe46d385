from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.text_models import java_set
from vireo_client.errors import SegmenterError
from vireo_client.text.vncorenlp.java import decode_modified_utf8, read_string_set


def _read(tmp_path: Path, data: bytes) -> list[str]:
    path = tmp_path / "vi-vocab"
    path.write_bytes(data)
    return read_string_set(path)


@pytest.mark.parametrize(
    "strings",
    [[], [""], ["xe hơi"], ["a", "", "t", "tt", "xe t", "à" * 60], ["dài " * 100], ["a\nb", "c"]],
)
def test_reads_what_java_writes(tmp_path: Path, strings: list[str]) -> None:
    assert _read(tmp_path, java_set(strings)) == strings


def test_reads_a_string_beyond_64_kib(tmp_path: Path) -> None:
    strings = ["ngắn", "dài" * 30_000]
    assert _read(tmp_path, java_set(strings)) == strings


def test_reads_modified_utf8(tmp_path: Path) -> None:
    face = b"\xed\xa0\xbd\xed\xb8\x80"  # U+1F600 as two surrogates of three bytes each
    assert _read(tmp_path, java_set([b"a\xc0\x80b", face])) == ["a\x00b", "😀"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_modified_utf8_round_trip(text: str) -> None:
    units = text.encode("utf-16-be")
    raw = b"".join(
        chr(int.from_bytes(units[at : at + 2], "big")).encode("utf-8", "surrogatepass")
        for at in range(0, len(units), 2)
    ).replace(b"\x00", b"\xc0\x80")
    assert decode_modified_utf8(raw) == text


def test_every_cut_is_an_error(tmp_path: Path) -> None:
    whole = java_set(["xe hơi", "hà nội"])
    for length in range(len(whole)):
        with pytest.raises(SegmenterError, match="vi-vocab: not a Java-serialised set"):
            _read(tmp_path, whole[:length])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html>not found</html>", "magic"),
        (b"\xac\xed\x00\x05\x77\x00", "not an object"),
        (java_set(["a"], name=b"java.util.TreeSet"), "holds a java.util.TreeSet"),
        (java_set(["a"])[:-5] + b"\x70\x00\x01a\x78", "not a string"),
        (java_set(["a"])[:-1] + b"\x74", "goes on"),
        (java_set([b"\xff\xfe"]), "utf-8"),
    ],
)
def test_other_files_are_errors_that_say_why(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(SegmenterError, match=reason):
        _read(tmp_path, data)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SegmenterError, match="cannot be read"):
        read_string_set(tmp_path / "nothing")


@given(st.binary(max_size=200))
def test_any_bytes_read_or_raise_the_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    for content in (data, java_set(["xe hơi"])[:28] + data):
        path.write_bytes(content)
        with contextlib.suppress(SegmenterError):
            read_string_set(path)
