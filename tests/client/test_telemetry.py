"""The measured stages."""

import re
import threading

import pytest
from support.processes import in_fork, run_python
from vireo_client import telemetry
from vireo_client.telemetry import BOUNDS, prometheus_text, snapshot, stage


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    monkeypatch.setattr(telemetry._registry, "times", {})


def test_a_stage_is_counted_and_timed(monkeypatch):
    clock = iter([1.0, 1.003, 2.0, 2.0001, 3.0, 103.0])
    monkeypatch.setattr(telemetry, "perf_counter", lambda: next(clock))
    for _ in range(3):
        with stage("segment"):
            pass
    times = snapshot()["segment"]
    assert times["count"] == 3
    assert times["seconds"] == pytest.approx(100.0031)
    assert len(times["buckets"]) == len(BOUNDS) + 1
    assert times["buckets"][BOUNDS.index(0.005)] == 1
    assert times["buckets"][-1] == 1
    assert sum(times["buckets"]) == 3


def test_an_error_goes_on_and_is_counted():
    with pytest.raises(KeyError):
        with stage("search"):
            raise KeyError("x")
    assert snapshot()["search"]["failed"] == 1


def test_threads_lose_no_count():
    def work():
        for _ in range(2000):
            with stage("outer"), stage("inner"):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: times["count"] for name, times in snapshot().items()} == {
        "inner": 16000,
        "outer": 16000,
    }


def test_prometheus_reads_the_text():
    for _ in range(3):
        with stage("tokenize"):
            pass
    text = prometheus_text()
    assert text.endswith("\n")
    buckets = re.findall(r'_bucket{stage="tokenize",le="([^"]+)"} (\d+)', text)
    assert [bound for bound, _ in buckets] == [*map(str, BOUNDS), "+Inf"]
    counts = [int(count) for _, count in buckets]
    assert counts == sorted(counts)
    assert counts[-1] == 3
    assert 'vireo_client_stage_seconds_count{stage="tokenize"} 3\n' in text
    assert 'vireo_client_stage_failed_total{stage="tokenize"} 0\n' in text
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) .*|[a-z_]+({[a-z]+="[^"]+"(,le="[^"]+")?})? \S+', line)


def test_a_forked_child_counts_on():
    with stage("search"):
        pass
    with telemetry._registry.times["search"].lock:  # as another thread may hold it

        def work():
            with stage("search"):
                pass
            return snapshot()["search"]["count"]

        assert in_fork(work, 30) == 2
    assert snapshot()["search"]["count"] == 1


_SPANS = """
from vireo_client.telemetry import stage
with stage("before"):
    pass
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
try:
    with stage("search"):
        with stage("request"):
            raise KeyError("x")
except KeyError:
    pass
request, search = exporter.get_finished_spans()
assert [request.name, search.name] == ["vireo.request", "vireo.search"]
assert request.parent.span_id == search.context.span_id
assert request.status.status_code is trace.StatusCode.ERROR
assert request.events[0].attributes["exception.type"] == "KeyError"
"""


def test_stages_are_spans_in_a_program_with_opentelemetry():
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk comes with [dev]")
    done = run_python("-c", _SPANS)
    assert done.returncode == 0, done.stderr


def test_a_program_without_opentelemetry_does_not_load_it():
    program = (
        "import sys; from vireo_client.telemetry import stage\nwith stage('x'): pass\n"
        "assert 'opentelemetry' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = run_python("-c", program)
    assert done.returncode == 0, done.stderr
