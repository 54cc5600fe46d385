"""What `deploy/` holds, as far as a machine without a container engine can try it."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.clients import write_photo_index
from support.tagged_versions import answer_tags, publish, write_model_files
from support.web_process import serving
from vireo_client.towers.triton import TritonTowers
from vireo_serving.models import files
from vireo_serving.server.options import ServerOptions
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "vireo.json"

# Triton writes these only where it sees a GPU:
# https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
GPU_ONLY = {
    "nv_gpu_utilization",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_memory_total_bytes",
}


@pytest.fixture(scope="module")
def dashboard():
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def _queries(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def _rules():
    alerts = yaml.safe_load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))
    return [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def metrics(repository):
    """What a real Triton writes after some requests, as names and their labels."""
    with TritonServer(repository.folder, ports=Ports(0, 0, 0)) as server:
        towers = TritonTowers(repository, server.url)
        for _ in range(2):
            towers.encode_text(np.full((1, 16), 5, dtype=np.int32))
        towers.close()
        with urllib.request.urlopen(server.metrics_url, timeout=60) as answer:
            text = answer.read().decode()
    found: dict[str, list[dict[str, str]]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.M):
        found.setdefault(name, []).append(dict(re.findall(r'(\w+)="([^"]*)"', labels)))
    return found


def test_every_metric_is_one_that_the_server_writes(dashboard, metrics):
    queried = {
        name
        for query in _queries(dashboard) + _rules()
        for name in re.findall(r"(?:nv|vireo)_\w+", query)
    }
    assert {name for name in queried if name.startswith("vireo_")} <= metrics.keys()
    assert len(queried) > 12
    assert queried - metrics.keys() <= GPU_ONLY


def test_every_selector_finds_something(dashboard, metrics):
    """A misspelt label or a pattern that fits no model would show an empty panel."""
    for query in _queries(dashboard) + _rules():
        for name, selector in re.findall(r"((?:nv|vireo)_\w+)\{([^}]*)\}", query):
            matchers = re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', selector)
            assert matchers, selector

            def fits(labels, matchers=matchers):
                for label, how, value in matchers:
                    if label not in labels:
                        return False
                    same = (
                        re.fullmatch(value, labels[label]) if "~" in how else labels[label] == value
                    )
                    if bool(same) == how.startswith("!"):
                        return False
                return True

            assert any(fits(labels) for labels in metrics[name]), (name, selector)


def test_the_dashboard_shows_what_is_promised(dashboard):
    queries = " ".join(_queries(dashboard))
    for metric in (
        "nv_inference_request_success", "nv_inference_request_failure",
        "nv_inference_request_summary_us", "nv_inference_queue_summary_us",
        "nv_inference_compute_infer_summary_us", "nv_inference_exec_count", "nv_cache_num_hits",
        "vireo_cache_hits_total",
        "nv_inference_pending_request_count", "nv_gpu_utilization",
    ):  # fmt: skip
        assert metric in queries


def test_panels_stand_apart_and_have_a_source(dashboard):
    (source,) = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text(encoding="utf-8")
    )["datasources"]
    taken = set()
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": source["uid"]}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_dashboard_is_one_in_grafanas_own_types(dashboard):
    """Read into the types of Grafana's SDK and written again, nothing is lost or unknown."""
    model = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    written = json.loads(JSONEncoder().encode(model.Dashboard.from_json(dashboard)))

    def lost(given, kept, where):
        if isinstance(given, dict):
            for key, value in given.items():
                if key not in kept:
                    yield f"{where}.{key}"
                else:
                    yield from lost(value, kept[key], f"{where}.{key}")
        elif isinstance(given, list):
            assert len(given) == len(kept), where
            for number, (a, b) in enumerate(zip(given, kept, strict=True)):
                yield from lost(a, b, f"{where}[{number}]")
        elif given != kept:
            yield f"{where}: {given} became {kept}"

    assert list(lost(dashboard, written, "dashboard")) == []


def _promtool(*words):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    return subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True)


def test_prometheus_takes_its_configuration_and_alerts():
    done = _promtool("check", "config", DEPLOY / "prometheus.yml")
    assert done.returncode == 0, done.stderr
    assert "3 rules found" in done.stdout


def test_prometheus_parses_every_query(dashboard, tmp_path):
    rules = [
        {"record": f"query:{number}", "expr": expr.replace("$__rate_interval", "1m")}
        for number, expr in enumerate(_queries(dashboard))
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = _promtool("check", "rules", file)
    assert done.returncode == 0, done.stderr


def _compose():
    """The compose command of this machine: the plugin, or the program of its own."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, text=True)
            if done.returncode == 0:
                return command
    pytest.skip("neither `docker compose` nor docker-compose is installed")


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]])
def test_compose_takes_its_files(files):
    words = [word for file in files for word in ("-f", str(DEPLOY / file))]
    command = [*_compose(), *words, "config"]
    variables = {k: v for k, v in os.environ.items() if k != "GRAFANA_PASSWORD"}
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert done.returncode != 0
    assert "choose the password" in done.stderr  # Grafana's own is admin
    variables["GRAFANA_PASSWORD"] = "x" * 16
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    assert {"server", "prometheus", "grafana"} <= yaml.safe_load(done.stdout)["services"].keys()


def test_what_compose_mounts_is_there():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), source
    for name in ("server", "web"):
        build = services[name]["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    for service in services.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")  # nothing is open to the network by default


def test_every_image_can_be_pinned_by_digest(dockerfile):
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for name in ("prometheus", "grafana"):
        assert re.fullmatch(rf"\${{{name.upper()}_IMAGE:-[^@}}]+}}", services[name]["image"])
    (default,) = [rest.partition("=")[2] for word, rest in dockerfile if word == "ARG"][:1]
    assert services["server"]["build"]["args"]["TRITON"] == f"${{TRITON_TAG:-{default}}}"
    assert ("FROM", "nvcr.io/nvidia/tritonserver:${TRITON}") in dockerfile  # takes TAG@sha256:...


def test_grafana_has_no_password_that_everybody_knows():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    password = services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]
    assert password.startswith("${GRAFANA_PASSWORD:?")


def test_prometheus_asks_where_the_server_listens():
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
    ((target,),) = [job["static_configs"][0]["targets"] for job in scraped["scrape_configs"]]
    assert target == f"server:{Ports().metrics}"


def _instructions(name):
    """Instructions as (word, rest), continued lines joined."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def dockerfile():
    return _instructions("Dockerfile.server")


def test_the_image_runs_as_nobody_special_and_is_watched(dockerfile):
    words = dict(dockerfile)
    words |= {f"ARG {k}": v for w, r in dockerfile if w == "ARG" for k, v in [r.split("=")]}
    assert words["FROM"] == "nvcr.io/nvidia/tritonserver:${TRITON}"
    year, month = map(int, words["ARG TRITON"].removesuffix("-py3").split("."))
    assert (year, month) >= (25, 7)  # releases before it can be ended by one request
    assert words["EXPOSE"].split() == [str(Ports().grpc), str(Ports().metrics)]
    assert words["USER"].split(":")[0] not in ("root", "0")
    command = json.loads(words["HEALTHCHECK"].partition("CMD ")[2])
    assert command[:2] == ["python3", "-m"]
    assert importlib.import_module(command[2]).DEFAULT_URL.endswith(f":{Ports().http}")
    for word, rest in dockerfile:
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source


def test_what_the_image_runs_is_a_command_of_ours(dockerfile, bundle, tmp_path, monkeypatch):
    """The entry point's words, on a folder that lies as the image expects it."""
    monkeypatch.setattr(files, "FOLDER", write_model_files(tmp_path / "model_files"))
    words = json.loads(dict(dockerfile)["ENTRYPOINT"])
    assert words == ["vireo", "serve", "/models/model_repository", "--host", "0.0.0.0"]
    publish(tmp_path / "models" / "model_repository", bundle, 1)
    with TritonServer(
        tmp_path / "models" / "model_repository", ports=Ports(0, 0, 0),
        options=ServerOptions(host=words[-1]),
    ) as server:  # fmt: skip
        import tritonclient.grpc as grpc

        assert answer_tags(grpc.InferenceServerClient(server.url), "embed_text") == (1, 1)


def test_the_image_of_the_page_is_nobody_special_and_needs_a_key(made_index, tmp_path):
    """The entry point's words, without a key and then with one."""
    instructions = _instructions("Dockerfile.web")
    words = dict(instructions)
    assert words["USER"].split(":")[0] not in ("root", "0")
    for word, rest in instructions:
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
    command = json.loads(words["ENTRYPOINT"])
    assert command == ["vireo", "web", "/index", "--host", "0.0.0.0"]
    extras = next(rest for word, rest in instructions if rest.startswith("EXTRAS="))
    assert {"cpu", "web"} <= set(extras.removeprefix("EXTRAS=").split(","))
    healthcheck = json.loads(words["HEALTHCHECK"].partition("CMD ")[2])
    with pytest.raises(AssertionError, match="--key-file"), serving(made_index, *command[3:]):
        pass
    with serving(made_index, *command[3:], "--key", "0123456789abcdef") as web:
        local = healthcheck[-1].replace("http://127.0.0.1:8080", web.address)
        assert local != healthcheck[-1]
        done = subprocess.run([sys.executable, "-c", local], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def made_index(repository, tmp_path, monkeypatch):
    pytest.importorskip("fastapi", reason="the page's server needs vireo[web]")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_photo_index(tmp_path, repository)
