"""Stages as spans of OpenTelemetry, and the headers that carry a trace to Triton."""

import asyncio
from concurrent import futures

import numpy as np
import pytest
from support.triton_standin import Service, standing_in
from support.waiting import wait_until
from vireo_client import telemetry
from vireo_client.embedder import Embedder
from vireo_client.index import IndexWriter
from vireo_client.indexing.pipeline import index_images
from vireo_client.indexing.sources import list_images
from vireo_client.telemetry import snapshot
from vireo_client.towers.aio import AsyncTritonTowers
from vireo_client.towers.connection import ConnectionOptions
from vireo_client.towers.onnx import OnnxTowers
from vireo_client.towers.triton import TritonTowers

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk comes with [dev]")
from opentelemetry import trace  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: E402
    InMemorySpanExporter,
)

IDS = np.full((1, 16), 5, dtype=np.int32)


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans, monkeypatch):
    """The tracer of a program that has set up OpenTelemetry."""
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return provider.get_tracer("program")


@pytest.fixture
def service(bundle):
    return Service(bundle.bundle_id)


@pytest.fixture
def url(service):
    with standing_in(service) as url:
        yield url


@pytest.fixture
def embedder(repository):
    with Embedder(repository, OnnxTowers.from_repository(repository, max_batch_size=4)) as embedder:
        yield embedder


def _traceparent(span):
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _traces(service):
    return [metadata["traceparent"].split("-")[1] for metadata in service.metadata]


def _trace_of(span):
    return f"{span.get_span_context().trace_id:032x}"


def test_a_request_names_its_span_to_triton(service, url, bundle, tracer, spans):
    towers = TritonTowers(bundle, url)
    with tracer.start_as_current_span("caller") as caller:
        towers.encode_text(IDS)
    towers.close()
    (request,) = [s for s in spans.get_finished_spans() if s.name == "vireo.request"]
    assert request.parent.span_id == caller.get_span_context().span_id
    assert service.metadata[0]["traceparent"] == _traceparent(request)


def test_images_that_threads_embed_belong_to_the_trace_of_the_caller(
    service, url, bundle, photos, tracer
):
    with (
        Embedder(bundle, TritonTowers(bundle, url)) as embedder,
        tracer.start_as_current_span("caller") as caller,
    ):
        embedder.embed_images([*photos.iterdir()])
    assert _traces(service) == [_trace_of(caller)]


def test_headers_of_the_program_win(service, url, bundle, tracer):
    mine = f"00-{1:032x}-{2:016x}-01"
    options = ConnectionOptions(headers={"traceparent": mine})
    towers = TritonTowers(bundle, url, options=options)
    towers.encode_text(IDS)
    towers.close()
    assert service.metadata[0]["traceparent"] == mine


def test_without_a_span_nothing_is_sent(service, url, bundle):
    towers = TritonTowers(bundle, url)
    towers.encode_text(IDS)
    towers.close()
    assert "traceparent" not in service.metadata[0]


def test_a_task_sends_its_own_trace_also_where_another_made_room_for_it(
    service, url, bundle, tracer
):
    async def embed(towers, name, rows):
        with tracer.start_as_current_span(name) as span:
            await towers.encode_text(np.repeat(IDS, rows, axis=0))
            return _trace_of(span)

    async def main():
        async with AsyncTritonTowers(
            bundle, url, options=ConnectionOptions(join_window=60.0)
        ) as towers:
            service.hold = futures.Future()
            first = asyncio.create_task(embed(towers, "first", 1))
            await asyncio.to_thread(wait_until, lambda: service.requests, 60)
            second = asyncio.create_task(embed(towers, "second", 2))
            await asyncio.sleep(0)  # it waits for the first to be answered
            service.hold.set_result(None)
            return [await first, await second]

    expected = asyncio.run(asyncio.wait_for(main(), 120))
    assert expected[0] != expected[1]
    assert _traces(service) == expected


def test_the_stages_of_indexing(tmp_path, photos, embedder, tracer, spans, monkeypatch):
    monkeypatch.setattr(telemetry._registry, "times", {})
    (photos / "broken.png").write_bytes(b"no image")
    records, _ = list_images(photos)
    with (
        IndexWriter(tmp_path / "index", embedder.bundle) as writer,
        tracer.start_as_current_span("caller") as caller,
    ):
        index_images(writer, embedder, records, source=photos)
    times = snapshot()
    assert times["read"]["count"] == 7
    assert (times["decode"]["count"], times["decode"]["failed"]) == (7, 1)
    assert times["embed"]["count"] == times["add"]["count"] >= 1
    assert times["save"]["count"] >= 1
    assert times["learn"]["count"] == 1
    found = [span for span in spans.get_finished_spans() if span.name != "caller"]
    names = {span.name for span in found}
    assert {"vireo.embed", "vireo.add", "vireo.save", "vireo.learn"} <= names
    assert not {"vireo.read", "vireo.decode"} & names
    assert {_trace_of(span) for span in found} == {_trace_of(caller)}
