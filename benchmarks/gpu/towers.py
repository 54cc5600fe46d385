"""Towers on a GPU, FP16, at batch 1 to 256 and each bucket. Never run yet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from vireo_client.bundle import Bundle
from vireo_client.errors import VireoError

from ..jobs.run import Run
from ..models import build
from ..models.gpu_engines import build_gpu_engines, gpu_engine
from ..models.operations import work_of
from ..models.sizes import pair as pair_of
from ..report.document import Report
from ..report.measurement import Measurement, latency
from . import runners
from .limits import measure_gpu_limits

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BUCKETS = (16, 32, 64)


@dataclass(frozen=True)
class Input:
    """One tower with inputs of one shape, as many rows as the largest batch."""

    name: str
    built: build.Built
    tower: str
    values: np.ndarray


def inputs(run: Run) -> Iterator[Input]:
    """Yield all towers of the run, texts of each bucket."""
    rng = np.random.default_rng(0)
    for name in run.effort.pairs:
        pair = pair_of(name)
        built = build.build(pair, run.work)
        build_gpu_engines(built, run.work)
        config = Bundle(built.bundle).config
        if pair.text:
            for bucket in BUCKETS:
                shape = (BATCHES[-1], bucket)
                ids = rng.integers(5, config.text.vocab_size, shape).astype(np.int32)
                yield Input(f"{pair.text}, {bucket} tokens", built, "text", ids)
        if pair.image:
            size = config.image.size
            pixels = rng.integers(0, 256, (BATCHES[-1], 3, size, size), np.uint8)
            yield Input(f"{pair.image}, {size} px", built, "image", pixels)


def towers(run: Run, report: Report) -> None:
    """Measure every way at every batch, and the share of the GPU's limits."""
    limits = measure_gpu_limits()
    report.add("limit/fp16", Measurement("Gop/s", "higher", (limits.fp32 / 1e9,)))
    bandwidth = limits.bytes_a_second / 1e9
    report.add("limit/memory bandwidth", Measurement("GB/s", "higher", (bandwidth,)))
    batches = (1, 32, 256) if run.quick else BATCHES
    rows = []
    for tower in inputs(run):
        length = tower.values.shape[1] if tower.tower == "text" else 0
        work = work_of(tower.built.bundle, tower.tower, length)
        for batch in batches:
            for way, found in ways(run, tower, batch, report):
                measured = report.add(f"gpu/{tower.name}/{way}/batch {batch}", latency(found))
                seconds = measured.value / 1e3
                operations = work.operations * batch / limits.fp32 / seconds
                memory = work.weights * 2 / limits.bytes_a_second / seconds
                rows.append([
                    tower.name, way, str(batch), f"{measured.value:.3f}", f"{batch / seconds:.0f}",
                    f"{operations:.0%}", f"{memory:.0%}",
                ])  # fmt: skip
    head = ["tower", "", "batch", "p50, ms", "rows/s", "of peak matrix throughput", "of bandwidth"]
    report.table("Towers on the GPU, FP16", head, rows)


def ways(
    run: Run, tower: Input, batch: int, report: Report
) -> Iterator[tuple[str, list[list[float]]]]:
    """Yield each way to run a batch with its seconds; one that fails is named in the report."""
    values, bundle = tower.values[:batch], tower.built.bundle
    dim = Bundle(bundle).config.embedding_dim
    onnx = gpu_engine(tower.built, "onnxruntime", tower.tower)
    graph = gpu_engine(tower.built, "tensorrt", tower.tower)
    stem = f"{tower.tower}-{'x'.join(map(str, values.shape))}.plan"
    plan = tower.built.folder / "plans" / stem
    makers = {
        "pytorch eager": lambda: runners.torch_eager(bundle, tower.tower, values),
        "pytorch compiled": lambda: runners.torch_compiled(bundle, tower.tower, values),
        "pytorch cuda graph": lambda: runners.torch_graph(bundle, tower.tower, values),
        "onnxruntime": lambda: runners.onnxruntime_cuda(onnx, values, dim, graph=False),
        "onnxruntime cuda graph": lambda: runners.onnxruntime_cuda(onnx, values, dim, graph=True),
        "tensorrt, with copies": lambda: runners.tensorrt(graph, plan, values),
    }
    for way, make in makers.items():
        try:
            call = make()
            for _ in range(3):
                call()
        except (RuntimeError, ImportError, VireoError) as error:
            report.cannot(f"{way}, {tower.name}, batch {batch}", str(error).partition("\n")[0])
            continue
        yield way, [_turn(call, run.plan.calls) for _ in range(run.rounds)]


def _turn(call: runners.Run, count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds
