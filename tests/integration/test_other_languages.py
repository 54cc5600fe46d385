"""The examples of docs/clients.md that embed through Triton, where their tools are at hand."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2
from vireo_client.search import open_embedder

CLIENTS = Path(__file__).resolve().parents[2] / "docs" / "clients"
TEXTS = ["hai con chó", "một con mèo", "ba ngôi sao màu vàng"]


def _lines(repository, triton):
    with open_embedder(repository, triton.url) as embedder:
        first, *others = embedder.embed_texts(TEXTS)
    return [(float(first @ other), text) for other, text in zip(others, TEXTS[1:], strict=True)]


def _check(printed, expected):
    lines = [line.partition(" ") for line in printed.splitlines()]
    assert [text for *_, text in lines] == [text for _, text in expected]
    for (cosine, *_), (wanted, _) in zip(lines, expected, strict=True):
        assert float(cosine) == pytest.approx(wanted, abs=1e-3)


def _run(command, cwd):
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, cwd=cwd, timeout=300,
        check=False, encoding="utf-8",
    )  # fmt: skip


def test_javascript(repository, triton):
    folder = CLIENTS / "javascript"
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    have = _run(["node", "-e", "require('@grpc/grpc-js'), require('@grpc/proto-loader')"], folder)
    if have.returncode:
        pytest.skip("needs @grpc/grpc-js and @grpc/proto-loader of npm, below NODE_PATH")
    done = _run(["node", "embed.mjs", triton.url, *TEXTS], folder)
    assert done.returncode == 0, done.stderr
    _check(done.stdout, _lines(repository, triton))


def test_java(repository, triton, tmp_path):
    if not shutil.which("mvn"):
        pytest.skip("mvn is not installed")
    shutil.copytree(CLIENTS, tmp_path / "clients")
    folder = tmp_path / "clients" / "java"
    offline = ["mvn", "-q", "-B", "-o"]
    built = _run([*offline, "compile", "exec:help"], folder)
    if built.returncode and "offline" in built.stdout + built.stderr:
        pytest.skip("Maven's own cache lacks the packages: run `mvn compile exec:help` there once")
    assert built.returncode == 0, built.stdout
    arguments = " ".join(f'"{text}"' for text in TEXTS)
    done = _run([*offline, "exec:java", f"-Dexec.args={triton.url} {arguments}"], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    _check(done.stdout, _lines(repository, triton))


def test_the_excerpt_of_the_service_has_tritons_own_numbers():
    text = re.sub(r"//.*", "", (CLIENTS / "triton.proto").read_text(encoding="utf-8"))
    checked, inside = 0, []
    for line in text.splitlines():
        if found := re.match(r"\s*message (\w+)", line):
            inside.append(found[1])
        elif found := re.match(r"\s*(repeated )?([\w.]+) (\w+) = (\d+);", line):
            message = service_pb2.DESCRIPTOR.message_types_by_name[inside[0]]
            for name in inside[1:]:
                message = message.nested_types_by_name[name]
            field = message.fields_by_name[found[3]]
            assert field.number == int(found[4]), found[3]
            checked += 1
        elif line.strip() == "}" and inside:
            inside.pop()
    assert checked >= 12
    method = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    assert method["ModelInfer"].input_type.name == "ModelInferRequest"
