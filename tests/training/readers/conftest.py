"""Fixtures of the reader tests, which write files of each format themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from vireo_client.captions import CaptionSet

Summary = list[tuple[str, tuple[str, ...]]]


@pytest.fixture
def images(photo: Callable[..., Path]) -> Callable[..., list[Path]]:
    """Writes images that differ, under the given names."""
    return lambda *names: [photo(name, seed=number) for number, name in enumerate(names)]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, object], Path]:
    """Writes a file: bytes and text as they are, anything else as JSON."""

    def do(name: str, content: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content, ensure_ascii=False)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return do


@pytest.fixture
def summary() -> Callable[[CaptionSet], Summary]:
    """Gives file names and captions, in order."""
    return lambda captions: [(r.path.name, r.captions) for r in captions.records]


@pytest.fixture
def reasons(tmp_path: Path) -> Callable[[CaptionSet], list[str]]:
    """Gives the skips as text, without the folder they all stand in."""
    return lambda captions: [str(s).replace(f"{tmp_path}/", "") for s in captions.skipped]
