"""`index --device cuda`: FAISS on GPUs, by `benchmarks/index_gpu.py`. Never run yet."""

from __future__ import annotations

from ..jobs import scripts
from ..jobs.run import Run
from ..report.document import Report
from ..report.measurement import Measurement


def run(run: Run) -> Report:
    """Measure 1, 10 and 50 million vectors in FP16, and return the report."""
    report = run.report("index")
    rows = (1_000_000,) if run.quick else (1_000_000, 10_000_000, 50_000_000)
    try:
        found = scripts.run("index_gpu", run.out / "scripts" / "index_gpu.json", "--rows", *rows)
    except RuntimeError as error:
        report.cannot("FAISS on GPUs", str(error))
        return report
    lines = []
    for each in found["search"]:
        name = f"{each['kind']}, {each['rows']:,} vectors"
        if "ms" not in each:
            report.cannot(f"FAISS on GPUs, {name}", each.get("note", "no figures"))
            continue
        for batch, milliseconds in each["ms"].items():
            report.add(
                f"gpu/index/{name}/{batch} queries", Measurement("ms", "lower", (milliseconds,))
            )
        lines.append([name, str(each.get("recall@10", "")), *map(str, each["ms"].values())])
    batches = next((list(each["ms"]) for each in found["search"] if "ms" in each), [])
    head = ["index", "recall@10", *(f"{batch} queries, ms" for batch in batches)]
    report.table("FAISS on one GPU, FP16", head, lines)
    return report
