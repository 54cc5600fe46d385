"""The examples of docs/api.md and docs/clients.md, run as a reader would run them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.web_process import serving
from vireo_client.search import SearchClient

DOCS = Path(__file__).resolve().parents[2] / "docs"
KEY = "0123456789abcdef-key"


@pytest.fixture(scope="module")
def served(made, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with serving(made, "--key", KEY, "--root", made.parent) as web:
            yield web.address


@pytest.fixture(scope="module")
def expected(made):
    with SearchClient(made) as client:
        return client.search("ảnh số 3", 5).paths


def _run(*words, cwd=None):
    environment = {"VIREO_WEB_KEY": KEY, "PATH": "/usr/bin:/bin:/usr/local/bin", "LANG": "C.UTF-8"}
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=120, check=False,
        env=environment, cwd=cwd, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


@_needs("node")
def test_javascript_searches_by_text_and_by_image(served, made, expected):
    program = DOCS / "clients" / "javascript" / "search.mjs"
    printed = _run("node", program, served, "ảnh số 3")
    assert [line.partition(" ")[2] for line in printed.splitlines()] == expected
    photo = made.parent / "photos" / "4.png"
    first = _run("node", program, served, "--image", photo).splitlines()[0]
    assert first.endswith("4.png")


@_needs("javac")
def test_java_searches(served, expected):
    printed = _run("java", "-XX:TieredStopAtLevel=1", DOCS / "clients" / "java" / "Search.java",
                   served, "ảnh số 3")  # fmt: skip
    assert [match["path"] for match in json.loads(printed)["matches"]] == expected


@_needs("curl")
def test_the_calls_of_curl_in_the_pages_are_answered(served, made, tmp_path):
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    calls = [
        call
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
        for call in re.split(r"\n(?=curl )", block.replace("\\\n", " "))
        if call.startswith("curl ")
    ]
    assert len(calls) >= 8
    shutil.copy(made.parent / "photos" / "4.png", tmp_path / "photo.jpg")
    job = json.loads(_run("curl", "-sS", "-H", f"Authorization: Bearer {KEY}", "--json",
                          json.dumps({"folder": str(made.parent / "photos")}),
                          f"{served}/v1/index"))["job"]["id"]  # fmt: skip
    for call in calls:
        call = call.replace("http://127.0.0.1:8080", served).replace("JOB", job)
        call = call.replace("/home/lan/Pictures", str(made.parent / "photos"))
        call = call.replace(
            "curl ", 'curl -sS --fail-with-body -H "Authorization: Bearer $VIREO_WEB_KEY" ', 1
        )
        _run("sh", "-c", call, cwd=tmp_path)
