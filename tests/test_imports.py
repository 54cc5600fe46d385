"""Who may import whom: the table of the packages, and no circle between modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE_ROOTS = {
    "vireo_client": "client",
    "vireo_web": "client",
    "vireo_serving": "model_repository",
    "vireo_training": "training",
    "vireo_export": "export",
}
MAY_IMPORT = {
    "vireo_client": set(),
    "vireo_web": {"vireo_client"},
    "vireo_serving": {"vireo_client"},
    "vireo_training": {"vireo_client"},
    "vireo_export": {"vireo_client", "vireo_serving", "vireo_training"},
}
LIGHT = ("vireo_client", "vireo_web", "vireo_serving")
HEAVY = {"torch", "torchvision", "timm", "transformers", "accelerate", "onnx", "onnxscript"}
"""Packages that a client's or a server's host need not have."""


def _modules() -> dict[str, Path]:
    """Return every module of the packages by its dotted name."""
    found = {}
    for package, folder in SOURCE_ROOTS.items():
        for path in sorted((ROOT / folder / package).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imports(module: str, path: Path) -> Iterator[str]:
    """Yield the absolute names that a module imports, wherever in it the import stands."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if name in MODULES else base


def _graph() -> dict[str, set[str]]:
    """Return, for each module, the modules of ours that it imports."""
    return {
        module: {name for name in _imports(module, path) if name in MODULES and name != module}
        for module, path in MODULES.items()
    }


@pytest.mark.parametrize("package", SOURCE_ROOTS)
def test_a_package_imports_only_what_the_table_allows(package):
    allowed = MAY_IMPORT[package] | {package}
    wrong = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        if module.split(".")[0] == package
        for name in _imports(module, path)
        if name.startswith("vireo_") and name.split(".")[0] not in allowed
    ]
    assert not wrong


@pytest.mark.parametrize("package", LIGHT)
def test_client_and_serving_import_nothing_heavy(package):
    wrong = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        if module.split(".")[0] == package
        for name in _imports(module, path)
        if name.split(".")[0] in HEAVY
    ]
    assert not wrong


def test_no_module_imports_itself_through_others():
    circles = [" <-> ".join(sorted(group)) for group in _strongly_connected(_graph())]
    assert not circles


def test_a_circle_would_be_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert _strongly_connected(graph) == [{"b", "c"}]


@pytest.mark.parametrize("folder", ["benchmarks", *SOURCE_ROOTS.values()])
def test_nothing_that_users_run_imports_from_the_tests(folder):
    wrong = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        where = path.relative_to(ROOT)
        for name in _imports(path.stem, path):
            if name.split(".")[0] in {"tests", "conftest"} or name.startswith("support."):
                wrong.append(f"{where} imports {name}")
        text = path.read_text(encoding="utf-8")
        if '"tests"' in text and "sys.path" in text:
            wrong.append(f"{where} puts the tests on sys.path")
    assert not wrong


def test_every_module_is_of_a_package_with_a_rule():
    packages = {
        path.parent.name
        for folder in set(SOURCE_ROOTS.values())
        for path in (ROOT / folder).glob("*/__init__.py")
    }
    assert packages == set(SOURCE_ROOTS)
    assert len(MODULES) > 150


def _strongly_connected(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of two or more modules that reach each other (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = set()
            while node not in group:
                group.add(stack.pop())
            if len(group) > 1:
                groups.append(group)

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return groups
