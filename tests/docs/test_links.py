"""The documentation names only what exists: links, headings, files, commands and their options."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner
from vireo_client.cli import build_app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SOURCES = [ROOT / folder for folder in ("client", "model_repository", "training", "export")]
README_LINES = 150
# Options of other programs that the pages name.
FOREIGN_OPTIONS = {
    "--model-repository",  # tritonserver
    "--profile",  # docker compose
    "--shm-size",  # docker
    "--backend-config",  # tritonserver
    "--grpc-infer-allocation-pool-size",  # tritonserver
}

TARGETS = ("cpu", "onnxruntime", "tensorrt")
WIDE = {"COLUMNS": "400", "TERMINAL_WIDTH": "400"}

FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(
    r"(?<![\w/.@-])(?:(?:benchmarks|docs|deploy|scripts|tests|training|client|export)"
    r"|vireo_\w+)/[\w./-]*\w\.(?:py|md|json|txt|ya?ml|sh|server)\b"
)


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """Return a page without its fenced code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


@functools.cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    found: dict[str, int] = {}
    out = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = found.get(slug, 0)
        found[slug] = number + 1
        out.add(f"{slug}-{number}" if number else slug)
    return frozenset(out)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(INLINE.sub("", prose(page))):
        if re.match(r"[a-z]+:", target):  # another site
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in PAGES if page.parent.name == "docs"
               and f"(docs/{page.name})" not in text]  # fmt: skip
    assert not missing


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


@each_page
def test_named_files_exist(page: Path) -> None:
    text = re.sub(r"https?://\S+", "", page.read_text(encoding="utf-8"))
    missing = [
        name
        for name in FILE.findall(text)
        if not any((root / name).exists() for root in (ROOT, page.parent, *SOURCES))
    ]
    assert not missing


@each_page
def test_examples_import_what_exists(page: Path) -> None:
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vireo_"):
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module} has no {name.name}"


@functools.cache
def commands() -> dict[str, frozenset[str]]:
    """Return the options of each command, by name such as `data check`."""

    # By attributes, not by click's classes: newer versions of typer carry a click of their own.
    def walk(command: Any, name: str) -> Iterator[tuple[str, frozenset[str]]]:
        if hasattr(command, "commands"):
            for child, sub in command.commands.items():
                yield from walk(sub, f"{name} {child}".strip())
            return
        yield name, frozenset(options(command, name))

    return dict(walk(typer.main.get_command(build_app()), ""))


def options(command: Any, name: str) -> Iterator[str]:
    yield "--help"
    for parameter in command.params:
        if parameter.param_type_name == "option":
            yield from (*parameter.opts, *parameter.secondary_opts)
    if any("--target" in parameter.opts for parameter in command.params):
        for target in TARGETS:  # each has options of its own
            shown = CliRunner().invoke(build_app(), [name, "--target", target, "--help"], env=WIDE)
            assert shown.exit_code == 0, shown.output
            yield from re.findall(r"(?<![\w-])--[a-z][a-z-]*", shown.output)


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words behind `vireo` wherever a page names a command."""
    text = page.read_text(encoding="utf-8")
    blocks = [match.group(0) for match in FENCE.finditer(text)]
    blocks += re.findall(r"(?:^ {4,}\S.*\n?)+", text, re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *INLINE.findall(FENCE.sub("", text))]:
        if not (match := re.match(r"\s*(?:\$ |. \S+; )?(?:\S+/|\w+=\S+ )*vireo (.+)", line)):
            continue
        try:
            words = shlex.split(match.group(1), comments=True)
        except ValueError:  # prose in an indented block
            continue
        end = next((n for n, word in enumerate(words) if word in ("|", "&&", ";", ">")), None)
        yield words[:end]


@each_page
def test_commands_and_their_options_exist(page: Path) -> None:
    wrong = []
    for words in command_lines(page):
        if words[0].startswith("-") or words[0].isupper():  # vireo --help, vireo COMMAND
            continue
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in commands()), None)
        if name is None:
            is_group = any(known.startswith(f"{words[0]} ") for known in commands())
            if not is_group:
                wrong.append(f"vireo {words[0]}")
            continue
        for word in words[1:]:
            option = word.partition("=")[0].rstrip(".,:;")
            if re.fullmatch(r"--?[a-z][\w-]*", option) and option not in commands()[name]:
                wrong.append(f"vireo {name} {option}")
    assert not wrong


@each_page
def test_options_named_alone_exist(page: Path) -> None:
    known = {option for names in commands().values() for option in names} | FOREIGN_OPTIONS
    for script in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', script.read_text(encoding="utf-8")))
    wrong = []
    for code in INLINE.findall(prose(page)):
        if re.match(r"--[a-z]", code):
            wrong += [option for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", code)
                      if option not in known]  # fmt: skip
    assert not wrong


def test_every_command_is_documented() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in commands() if f"vireo {name}" not in text] == []
