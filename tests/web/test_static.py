"""The page's own files: small, whole, and nothing in them from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import vireo_web

STATIC = Path(vireo_web.__file__).parent / "static"
FILES = sorted(path for path in STATIC.rglob("*") if path.is_file())


def test_they_are_below_150_kb():
    assert sum(path.stat().st_size for path in FILES) < 150_000


def test_nothing_comes_from_elsewhere():
    for path in FILES:
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.[a-z]", text), path.name


def test_there_is_no_inline_script_or_style():
    page = (STATIC / "index.html").read_text("utf-8")
    assert not re.search(r"<style|style=|\son\w+=|javascript:", page)
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)
    for path in STATIC.glob("*.js"):
        script = path.read_text("utf-8")
        # Texts of captions and file names go in as text.
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script
        )


def test_each_file_that_is_named_is_there():
    named = set()
    for path in FILES:
        text = path.read_text("utf-8")
        named |= set(re.findall(r"/static/([\w.]+)", text))
        named |= set(re.findall(r'from "\./([\w.]+)"', text))
    assert named
    assert named <= {path.name for path in FILES}


def test_all_modules_are_loaded_at_once():
    page = (STATIC / "index.html").read_text("utf-8")
    modules = {path.name for path in STATIC.glob("*.js")} - {"main.js", "theme.js"}
    assert set(re.findall(r'modulepreload" href="/static/([\w.]+)"', page)) == modules
