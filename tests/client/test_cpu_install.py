"""What `pip install 'vireo[cpu]'` installs is enough to index and to search."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

packaging = pytest.importorskip("packaging.requirements")
tomllib = pytest.importorskip("tomllib")

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

_PROGRAM = """
import json, sys

blocked, photos, model, index = json.loads(sys.argv[1])

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())

import asyncio
import importlib
import vireo_client
from vireo_client import AsyncSearchClient, Bundle, SearchClient
from vireo_client.index import IndexWriter

IndexWriter(index, Bundle(model)).close()
with SearchClient(index, model=model) as client:
    assert client.add(photos, captions=["một ảnh"] * len(photos)).added == len(photos)
    assert len(client.search("hai con chó")) == len(photos)
    assert len(client.search("ảnh", image=photos[0], hybrid=True, filter="width > 1")) > 0
    assert len(client.describe(photos[0])) == len(photos)

async def ask():
    async with AsyncSearchClient(index, model=model) as client:
        return await client.search("hai con chó")

assert len(asyncio.run(ask())) == len(photos)
from vireo_client.diagnosis import diagnose, is_healthy
assert is_healthy(list(diagnose(index, None, None, None)))
for name in ("torch", "pyarrow", "pandas"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"{name} was not blocked")
"""


def _name(text):
    return text.lower().replace("_", "-").replace(".", "-")


def _installed_with(requirements):
    """Return the names of all distributions that pip would install for `requirements`."""
    found, waiting = set(), [(requirement, "") for requirement in requirements]
    while waiting:
        text, extra = waiting.pop()
        requirement = packaging.Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = _name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in found:
                found.add((name, wanted))
                try:
                    waiting += [(one, wanted) for one in requires(name) or ()]
                except PackageNotFoundError:  # for another system or Python
                    continue
    return {name for name, _ in found}


def test_what_it_installs_indexes_and_searches(repository, photo, tmp_path):
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    wanted = _installed_with(project["dependencies"] + project["optional-dependencies"]["cpu"])
    assert {"numpy", "faiss-cpu", "onnxruntime", "tritonclient", "grpcio"} <= wanted
    blocked = [
        module
        for module, owners in packages_distributions().items()
        if not {_name(owner) for owner in owners} & {*wanted, "vireo"}
    ]
    assert {"torch", "pyarrow", "hypothesis"} <= {*blocked}
    photos = [str(photo(f"{number}.png", seed=number)) for number in range(3)]
    arguments = json.dumps([blocked, photos, str(repository.folder), str(tmp_path / "index")])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
