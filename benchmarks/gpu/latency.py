"""`latency --device cuda`: towers by batch, and a query through Triton. Never run yet."""

from __future__ import annotations

import shutil
from pathlib import Path

from vireo_client.repository import TEXT_MODEL

from ..contenders.ours import Search
from ..contenders.turns import in_turns
from ..jobs.run import Run, serving
from ..jobs.subjects import served
from ..load.clients import TritonTarget, text_requests
from ..load.processes import Clients
from ..models import build
from ..models.gpu_engines import MODELS, build_gpu_engines, gpu_engine
from ..models.sizes import SERVED, pair
from ..report.document import Report
from ..report.markdown import latency_cells
from ..report.measurement import latency, rate
from .towers import towers


def run(run: Run) -> Report:
    """Measure and return the report."""
    report = run.report("latency")
    towers(run, report)
    through_triton(run, report)
    return report


def through_triton(run: Run, report: Report) -> None:
    """Measure a text query and many clients, the towers by ONNX Runtime on the GPU in Triton."""
    if shutil.which("tritonserver") is None:
        report.cannot("end to end on the GPU", "no tritonserver on PATH; run in NVIDIA's image")
        return
    subject = served(run)
    repository = gpu_repository(run)
    corpus = subject.corpus(run.work)
    with serving(repository, run.out / "logs" / "gpu.log") as url:
        search = Search(corpus.index, repository, url, subject.texts)
        turns = in_turns({"triton": search}, run.plan)["triton"]
        measured = report.add("gpu/text query/triton", latency(turns.rounds))
        rows = [["one text query", *latency_cells(measured.samples)]]
        report.table("Through Triton on the GPU", ["", "p50, ms", "p95", "p99"], rows)
        target = TritonTarget(url, text_requests("embed_text", subject.texts))
        with Clients(target, max(run.effort.clients)) as clients:
            for count in run.effort.clients:
                loads = [clients.closed(count, run.effort.seconds) for _ in range(run.rounds)]
                rates = [load.per_second for load in loads]
                report.add(f"gpu/embed_text/{count} clients", rate(rates, **loads[-1].facts))


def gpu_repository(run: Run) -> Path:
    """Return a repository of FP16 towers for Triton's ONNX Runtime on GPUs."""
    from vireo_client.repository import PARITY_FILE
    from vireo_serving.configs.triton_config import ServingOptions
    from vireo_serving.repository.publish import publishing, write_repository
    from vireo_serving.targets.onnxruntime import OnnxRuntime
    from vireo_training.sources import open_source

    built = build.build(pair(SERVED), run.work)
    build_gpu_engines(built, run.work)
    repository = built.folder / "gpu-repository"
    if (repository / TEXT_MODEL).is_dir():
        return repository
    scratch = built.folder / "scratch-gpu"
    engines = {}
    for tower, model in MODELS.items():  # publishing moves them
        engine = gpu_engine(built, "onnxruntime", tower)
        shutil.copytree(engine.parent, scratch / model, dirs_exist_ok=True)
        engines[model] = scratch / model / engine.name
    with publishing(repository) as draft:
        bundle = open_source(built.bundle).bundle
        options = ServingOptions(response_cache=False)
        write_repository(draft, bundle, engines, options, target=OnnxRuntime(device="gpu"))
        (draft / PARITY_FILE).write_text("{}\n")
    shutil.rmtree(scratch)
    return repository
