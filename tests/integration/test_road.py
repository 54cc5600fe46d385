"""The whole road by the command line, as a user types it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.processes import start
from vireo_client.bundle import Bundle

VIREO = Path(sys.executable).parent / "vireo"
SMALL = ("--train-pictures", 64, "--test-pictures", 16, "--epochs", 1)
"""The smallest demo: what it learns does not matter here."""


def _vireo(*words, code=0, **options):
    done = subprocess.run(
        [VIREO, *map(str, words)], capture_output=True, text=True, timeout=1200, **options
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    _vireo("demo", "--out", out, *SMALL)
    return out


def test_the_demo_writes_its_report_and_its_images(demo):
    report = json.loads((demo / "report.json").read_text())
    for way in ("text_to_image", "image_to_text"):
        assert 0 <= report[way]["recall_at_1"] <= 1
        assert report[way]["queries"] in (16, 64)
    for tower in ("text", "image"):
        assert report["parity"][tower]["min_cosine"] >= 0.9999
    assert report["parity"]["metric_change"] == 0
    assert report["triton"]["version"].startswith("2.")
    assert {"scenes", "train", "export", "serve", "index", "search"} <= set(report["stage_seconds"])
    assert len(report["queries"]) >= 8
    assert all(Path(m["path"]).is_file() for q in report["queries"] for m in q["matches"])
    assert Image.open(demo / "results.png").width > 500


def test_the_demo_can_be_run_again(demo):
    before = Bundle(demo / "bundle").bundle_id
    _vireo("demo", "--out", demo, *SMALL)
    assert Bundle(demo / "bundle").bundle_id == before


def test_search_answers_through_triton_as_in_process(demo, tmp_path):
    # The server is of this demo's own bundle, so it is started by the command.
    command = [VIREO, "serve", demo / "model_repository", *["--http-port", "0", "--grpc-port", "0"],
               "--metrics-port", "0"]  # fmt: skip
    with start(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert "ready" in server.stdout.readline()
        url = server.stdout.readline().split()[1]
        query = ["search", "hai con cá màu đỏ", "--index", demo / "index", "-k", 4, "--json"]
        local = json.loads(_vireo(*query).stdout)
        remote = json.loads(_vireo(*query, "--triton", url).stdout)
        server.send_signal(signal.SIGINT)
        server.wait(120)
    assert [m["path"] for m in local["matches"]] == [m["path"] for m in remote["matches"]]
    for a, b in zip(local["matches"], remote["matches"], strict=True):
        assert a["score"] == pytest.approx(b["score"], abs=1e-4)
    assert [m["rank"] for m in local["matches"]] == [1, 2, 3, 4]


def test_text_shows_what_the_model_sees(demo):
    words = ["text", "Hai con cá  ở bên tráí", "--bundle", demo / "model_repository"]
    shown = json.loads(_vireo(*words, "--json").stdout)
    assert shown["normalized"] == "Hai con cá ở bên tráí"
    assert shown["ids"][0] == 0
    assert shown["bucket"] == 16
    assert "bucket" in _vireo(*words).stdout


def test_search_draws_a_contact_sheet_and_finds_by_image(demo, tmp_path):
    image = demo / "scenes" / "test" / "images" / "test_00000.png"
    sheet = tmp_path / "hits.png"
    words = ["search", "--index", demo / "index", "--image", image]
    done = _vireo(*words, "--sheet", sheet)
    rank, score, *_, path = done.stdout.splitlines()[0].split()
    assert (rank, path) == ("1", str(image.resolve()))
    assert float(score) > 0.99
    assert Image.open(sheet).size[1] > 150
    captions = json.loads(_vireo(*words, "--sentences", "--json").stdout)["matches"]
    assert all(m["caption"] for m in captions)


def test_evaluate_gives_the_same_figures_by_pytorch_and_onnx(demo):
    words = ["--data", demo / "scenes" / "test", "--split", "all", "--json"]
    torch = json.loads(_vireo("evaluate", demo / "bundle", *words).stdout)
    onnx = json.loads(
        _vireo("evaluate", demo / "model_repository", *words, "--engine", "onnx").stdout
    )
    assert torch["text_to_image"] == onnx["text_to_image"]
    assert torch["image_to_text"] == onnx["image_to_text"]
    table = _vireo("evaluate", demo / "bundle", *words[:-1]).stdout
    assert "text to image (64 of 16)" in table
    assert "chance" in table


def test_indexing_twice_adds_nothing_and_says_so(demo, tmp_path):
    words = ["index", demo / "scenes" / "test", "--model", demo / "model_repository",
             "--index", tmp_path / "i", "--json"]  # fmt: skip
    first, second = (json.loads(_vireo(*words).stdout) for _ in range(2))
    assert (first["added"], first["total"]) == (16, 16)
    assert (second["added"], second["unchanged"], second["total"]) == (0, 16, 16)


def test_an_interrupted_demo_ends_without_a_traceback(tmp_path):
    process = start([VIREO, "demo", "--out", tmp_path / "d"], stderr=subprocess.PIPE)
    for line in process.stderr:
        if line.startswith("2. "):  # it begins to train
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "x", "--index", "{tmp}/gone"], "no index here"),
        (["search", "", "--index", "{demo}/index"], "text 0: holds no text"),
        (["search", "x", "--index", "{demo}/index", "--triton", "127.0.0.1:9"], "Triton at"),
        (["search", "--image", "{tmp}/gone.jpg", "--index", "{demo}/index"], "no such file"),
        (["index", "{tmp}", "--model", "{demo}/model_repository"], "no images in this folder"),
        (["index", "{demo}", "--model", "{tmp}"], "no bundle.json here"),
        (["evaluate", "{demo}/bundle", "--data", "{tmp}"], "holds no captions.jsonl"),
        (["export", "{demo}/model_repository", "--data", "{demo}/scenes/test", "--split", "all"],
         "no model.safetensors"),
        (["train", "{tmp}/x", "--out", "{tmp}/r", "--preset", "scenes"], "no such file"),
        (["train", "{demo}/scenes/test", "--out", "{tmp}/r", "--set", "text.segmenter=none"],
         "cannot be had"),
        (["train", "{demo}/scenes/test", "--out", "{tmp}/r", "--preset", "photos"],
         "image.weights is not set"),
        (["serve", "{tmp}"], "no model repository there"),
        (["serve", "{demo}/bundle"], "no text_encoder here"),
        (["index", "{demo}/scenes/test", "--model", "{demo}/model_repository", "--index",
          "{demo}/report.json"], "cannot be opened"),
        (["search", "x", "--index", "{demo}/index", "--sheet", "{tmp}/no/s.png"], "No such file"),
        (["train", "{demo}/scenes/test", "--out", "/proc/x", "--preset", "scenes"], "/proc/x"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(demo, tmp_path, words, message):
    filled = [word.format(demo=demo, tmp=tmp_path) for word in words]
    done = _vireo(*filled, code=1, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]


@pytest.mark.parametrize(
    "words",
    [["search", "x", "--queries", "y"], ["search", "x", "--weights", "1,2"],
     ["search", "x", "--sheet", "s.zzz"], ["search", "--image", "y", "--hybrid"], ["serve"],
     ["evaluate", "b", "--data", "d", "--split", "half"], ["search", "x", "-k", "0"]],
)  # fmt: skip
def test_a_wrong_usage_is_explained(words):
    assert "Usage:" in _vireo(*words, code=2).stderr


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "train",
        "evaluate",
        "compare",
        "export",
        "serve",
        "index",
        "search",
        "text",
        "doctor",
    ],
)
def test_every_command_has_help_with_an_example(command):
    text = _vireo(command, "--help", env={**os.environ, "COLUMNS": "200"}).stdout
    assert f"vireo {command}" in text.partition("Example")[2]


def test_an_index_of_another_bundle_is_refused(demo, repository, tmp_path):
    done = _vireo("search", "x", "--index", demo / "index", "--model", repository.folder, code=1)
    assert "made by bundle" in done.stderr


def test_a_missing_extra_is_named(demo, tmp_path):
    """As in an environment that has only the base: importing the package fails."""
    (tmp_path / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError('no onnxruntime', name='onnxruntime')"
    )
    done = _vireo(
        "search", "x", "--index", demo / "index", code=1,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert "pip install 'vireo[cpu]' (or 'vireo[gpu]'" in done.stderr


def test_real_photos_go_the_same_road(shared_data, tmp_path, monkeypatch):
    """627 photos with a pretrained tower: no code touched, only settings; one epoch."""
    data = tmp_path / "photos"
    data.mkdir()
    monkeypatch.setenv("VIREO_ALLOW_OUTSIDE", "1")  # the images are behind a link
    (data / "images").symlink_to(shared_data / "photos_vi" / "images")
    lines = (shared_data / "photos_vi" / "captions.jsonl").read_text().splitlines()
    (data / "captions.jsonl").write_text("\n".join(lines[::6]) + '\n{"image": "images/gone.jpg"')
    weights = shared_data / "weights" / "mobilenetv2_100"
    _vireo("train", data, "--out", tmp_path / "run", "--preset", "photos",
           "--set", f"image.weights={weights}",
           "--set", "epochs=1", "--set", "augment={}", "--set", "text.segmenter=vncorenlp",
           env={**os.environ, "VIREO_DATA": str(shared_data)})  # fmt: skip
    run = tmp_path / "run"
    parity = json.loads(
        _vireo("export", run / "bundle", "--data", data, "--split", "all", "--json").stdout
    )
    assert parity["text"]["min_cosine"] >= 0.9999
    assert parity["image"]["min_cosine"] >= 0.9999
    assert parity["metric_change"] == 0
    shutil.rmtree(run / "bundle")  # a model repository is all that searching needs
    index = ["--index", tmp_path / "i"]
    _vireo("index", data, "--model", run / "model_repository", *index)
    hits = json.loads(_vireo("search", "hai người phụ nữ đội nón lá", *index, "--json").stdout)
    assert len(hits["matches"]) == 10
    assert all(Path(m["path"]).is_file() for m in hits["matches"])
